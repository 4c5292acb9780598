use std::time::Duration;

use crate::{CallsSnapshot, LayerSnapshot, OperationSnapshot, Sketch, Snapshot};

/// What a rule looks at: a figure of a layer, or one of the calls that telemetry layers saw.
///
/// Where it is said of no instance, every one that has the figure is looked at, and each has alerts of its own.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a rule looks at it"]
pub struct Subject {
    pub(crate) of: Of,
    /// The instance, or any.
    pub(crate) name: Option<String>,
    /// None: the figure as it is.
    pub(crate) window: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Of {
    Layer { layer: String, figure: String, label: Option<(String, String)> },
    Calls(CallsFigure),
}

/// A figure of the calls that a telemetry layer saw. Calls that were dropped count in none of the shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallsFigure {
    /// The share of calls that failed or panicked, from 0 to 1.
    ErrorShare,
    /// The share of calls that a layer refused or gave up, from 0 to 1.
    RejectedShare,
    /// What half of the calls do not exceed, in seconds.
    P50,
    /// What 95 % do not exceed, in seconds.
    P95,
    /// What 99 % do not exceed, in seconds.
    P99,
    /// Calls that ended, per second.
    PerSecond,
}

impl Subject {
    /// A figure of layers of that kind, as it is: `Subject::figure("bulkhead", "waiting")`. If it has a label and none is
    /// [given](Self::labelled), the sum over all values of the label.
    pub fn figure(layer: impl Into<String>, figure: impl Into<String>) -> Self {
        Self {
            of: Of::Layer { layer: layer.into(), figure: figure.into(), label: None },
            name: None,
            window: None,
        }
    }

    /// A figure of calls, over five minutes.
    pub fn calls(figure: CallsFigure) -> Self {
        Self { of: Of::Calls(figure), name: None, window: Some(Duration::from_secs(300)) }
    }

    /// Of that instance alone.
    pub fn of(self, name: impl Into<String>) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Of a layer's figure, the one with that label: `labelled("reason", "timed_out")`. It says nothing of calls.
    pub fn labelled(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        if let Of::Layer { label, .. } = &mut self.of {
            *label = Some((key.into(), value.into()));
        }
        self
    }

    /// Of a layer's counter, how much it grows per second over such a window. Of calls, another window than five minutes.
    pub fn over(self, window: Duration) -> Self {
        Self { window: Some(window), ..self }
    }

    /// The kind of layer whose figures these are.
    pub(crate) fn layer(&self) -> &str {
        match &self.of {
            Of::Layer { layer, .. } => layer,
            Of::Calls(_) => "telemetry",
        }
    }

    /// What there is of it now.
    pub(crate) fn read(&self, snapshot: &Snapshot) -> Vec<Reading> {
        let is_meant = |name: &str| self.name.as_deref().is_none_or(|meant| meant == name);
        match &self.of {
            Of::Layer { layer, figure, label } => {
                let layers = snapshot.layers.iter();
                let meant = layers.filter(|known| known.layer == layer && is_meant(known.name));
                let reading = |known: &LayerSnapshot| {
                    let figure = read(known, figure, label.as_ref())?;
                    Some(Reading { instance: known.name, source: 0, raw: Raw::Number(figure) })
                };
                meant.filter_map(reading).collect()
            }
            Of::Calls(figure) => {
                let calls = snapshot.calls.iter().filter(|known| is_meant(known.name));
                calls.map(|known| Reading::of(known, Raw::of(*figure, &known.total))).collect()
            }
        }
    }
}

fn read(layer: &LayerSnapshot, name: &str, label: Option<&(String, String)>) -> Option<f64> {
    let mut all = layer.figures.iter().filter(|figure| {
        figure.name == name
            && label.is_none_or(|(key, value)| figure.label == Some((key.as_str(), value.as_str())))
    });
    let first = all.next()?.value;
    Some(all.fold(first, |sum, figure| sum + figure.value))
}

/// The raw figures of one instance at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) instance: &'static str,
    /// Of calls, who counts them: another one of the same name counts from nothing.
    pub(crate) source: u64,
    pub(crate) raw: Raw,
}

impl Reading {
    pub(crate) fn of(calls: &CallsSnapshot, raw: Raw) -> Self {
        Self { instance: calls.name, source: calls.source, raw }
    }
}

/// What is kept of a moment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Raw {
    Number(f64),
    /// Of so many.
    Share {
        part: u64,
        all: u64,
    },
    Sketch(Sketch),
}

impl Raw {
    fn of(figure: CallsFigure, calls: &OperationSnapshot) -> Self {
        match figure {
            CallsFigure::ErrorShare => {
                Self::Share { part: calls.failure + calls.panicked, all: judged(calls) }
            }
            CallsFigure::RejectedShare => Self::Share { part: calls.rejected, all: judged(calls) },
            CallsFigure::PerSecond =>
            {
                #[expect(clippy::cast_precision_loss, reason = "a rate is no ledger")]
                Self::Number(calls.count() as f64)
            }
            CallsFigure::P50 | CallsFigure::P95 | CallsFigure::P99 => {
                Self::Sketch(calls.latency.sketch.clone())
            }
        }
    }
}

/// Those that say anything: whoever drops a call does not wait for its result.
pub(crate) fn judged(calls: &OperationSnapshot) -> u64 {
    calls.count() - calls.cancelled
}

impl CallsFigure {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::ErrorShare => "error share",
            Self::RejectedShare => "rejected share",
            Self::P50 => "p50",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::PerSecond => "calls per second",
        }
    }

    pub(crate) const fn quantile(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            _ => None,
        }
    }
}
