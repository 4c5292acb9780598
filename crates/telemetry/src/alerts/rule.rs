use std::{
    hash::{BuildHasher, Hasher},
    ops::RangeInclusive,
    time::Duration,
};

use foldhash::fast::FixedState;

use serde::Serialize;

use super::{BurnWindow, Slo, Subject};
use crate::sketch::Bound;

/// When an alert fires.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "give it to `Alerts::builder`"]
pub struct Rule {
    pub(crate) name: String,
    pub(crate) summary: Option<String>,
    pub(crate) severity: Severity,
    pub(crate) condition: Condition,
    pub(crate) hold: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    Threshold { subject: Subject, comparison: Comparison, value: f64 },
    Between { subject: Subject, range: RangeInclusive<f64> },
    BurnRate { slo: Slo, windows: Vec<BurnWindow> },
}

/// How urgent an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Severity {
    /// Somebody should look at it today.
    Warning,
    /// Somebody should look at it now.
    Critical,
}

/// How a figure is compared with a threshold. What is no number is on no side of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Comparison {
    /// Greater.
    Above,
    /// Greater or equal.
    AtLeast,
    /// Less.
    Below,
    /// Less or equal.
    AtMost,
}

impl Comparison {
    pub(crate) fn holds(self, figure: f64, threshold: f64) -> bool {
        match self {
            Self::Above => figure > threshold,
            Self::AtLeast => figure >= threshold,
            Self::Below => figure < threshold,
            Self::AtMost => figure <= threshold,
        }
    }

    /// As people, and Prometheus, write it.
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::AtLeast => ">=",
            Self::Below => "<",
            Self::AtMost => "<=",
        }
    }
}

impl Severity {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl Rule {
    /// Fires where the subject is on that side of a value. A warning, at once.
    pub fn threshold(name: impl Into<String>, subject: Subject, comparison: Comparison, value: f64) -> Self {
        Self::new(name.into(), Severity::Warning, Condition::Threshold { subject, comparison, value })
    }

    /// Fires where the subject is within that range, both ends included. A warning, at once.
    pub fn between(name: impl Into<String>, subject: Subject, range: RangeInclusive<f64>) -> Self {
        Self::new(name.into(), Severity::Warning, Condition::Between { subject, range })
    }

    /// Fires where the budget of an objective burns too fast, in both windows of [any pair](BurnWindow::DEFAULT). Critical, at
    /// once.
    pub fn burn_rate(name: impl Into<String>, slo: Slo) -> Self {
        let windows = BurnWindow::DEFAULT.to_vec();
        Self::new(name.into(), Severity::Critical, Condition::BurnRate { slo, windows })
    }

    /// Other windows than the default ones. It says nothing of other rules than of burn rates.
    pub fn windows(mut self, new: impl IntoIterator<Item = BurnWindow>) -> Self {
        if let Condition::BurnRate { windows, .. } = &mut self.condition {
            *windows = new.into_iter().collect();
        }
        self
    }

    /// It fires only when it has held for so long, at every look.
    pub fn for_at_least(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    /// How urgent it is.
    pub fn severity(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }

    /// What it says to who is woken up. By default what is compared with what.
    pub fn summary(self, summary: impl Into<String>) -> Self {
        Self { summary: Some(summary.into()), ..self }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn new(name: String, severity: Severity, condition: Condition) -> Self {
        Self { name, summary: None, severity, condition, hold: Duration::ZERO }
    }

    /// The kind of layer that it looks at.
    pub(crate) fn layer(&self) -> &str {
        match &self.condition {
            Condition::Threshold { subject, .. } | Condition::Between { subject, .. } => subject.layer(),
            Condition::BurnRate { .. } => "telemetry",
        }
    }

    /// The instance that it looks at, or any.
    #[cfg(feature = "generate")]
    pub(crate) fn instance(&self) -> Option<&str> {
        match &self.condition {
            Condition::Threshold { subject, .. } | Condition::Between { subject, .. } => {
                subject.name.as_deref()
            }
            Condition::BurnRate { slo, .. } => Some(&slo.calls),
        }
    }

    /// What it says, of all instances.
    pub(crate) fn says(&self) -> String {
        let figure = |subject: &Subject| match &subject.of {
            super::subject::Of::Layer { layer, figure, .. } => format!("{figure} of {layer}"),
            super::subject::Of::Calls(figure) => format!("{} of calls", figure.word()),
        };
        match (&self.summary, &self.condition) {
            (Some(summary), _) => summary.clone(),
            (None, Condition::Threshold { subject, comparison, value }) => {
                format!("{} {} {value}", figure(subject), comparison.sign())
            }
            (None, Condition::Between { subject, range }) => {
                format!("{} from {} to {}", figure(subject), range.start(), range.end())
            }
            (None, Condition::BurnRate { slo, .. }) => {
                format!("the error budget of {} burns too fast", slo.objective)
            }
        }
    }

    /// Why it cannot be used.
    pub(crate) fn flaw(&self) -> Option<&'static str> {
        let window = |window: Duration| window < Duration::from_millis(1) || window > MAX_WINDOW;
        let subject_flaw = |subject: &Subject| match &subject.of {
            _ if subject.window.is_some_and(window) => Some(WINDOW),
            super::subject::Of::Layer { layer, figure, .. } if layer.is_empty() || figure.is_empty() => {
                Some("its subject has no layer or no figure")
            }
            _ => None,
        };
        if self.name.trim().is_empty() || self.name.len() > MAX_NAME {
            return Some("its name must be 1 to 200 bytes and not blank");
        }
        match &self.condition {
            Condition::Threshold { subject, value, .. } => {
                subject_flaw(subject).or((!value.is_finite()).then_some("its threshold is no finite number"))
            }
            Condition::Between { subject, range } => {
                let is_one =
                    range.start().is_finite() && range.end().is_finite() && range.start() <= range.end();
                subject_flaw(subject).or((!is_one).then_some("its range is empty or without an end"))
            }
            Condition::BurnRate { slo, windows } => {
                let is_share = slo.objective > 0.0 && slo.budget() > 0.0;
                let is_odd = |it: &BurnWindow| window(it.long) || window(it.short) || it.short > it.long;
                let is_no_factor = |it: &BurnWindow| !(it.factor.is_finite() && it.factor > 0.0);
                match () {
                    () if slo.slower.is_some_and(|than| Bound::called(than).is_none()) => Some(BOUND),
                    () if !is_share => Some("its objective must be between 0 and 1, such as 0.999"),
                    () if windows.is_empty() || windows.len() > 8 => Some("it must have 1 to 8 windows"),
                    () if windows.iter().any(is_odd) => Some(
                        "its windows must be from a millisecond to 30 days long, the short one no longer than the long one",
                    ),
                    () if windows.iter().any(is_no_factor) => Some("its factors must be above zero"),
                    () if windows.iter().all(|it| slo.limit(it.factor) >= 1.0) => Some(
                        "it would not fire if every call failed: give it lower factors, or a higher objective",
                    ),
                    () => None,
                }
            }
        }
    }
}

const MAX_NAME: usize = 200;
const MAX_WINDOW: Duration = Duration::from_secs(30 * 24 * 3600);
const WINDOW: &str = "its window must be from a millisecond to 30 days long";

const BOUND: &str = "`slower_are_bad` must be a bound of the histograms that Prometheus reads: \
    1, 5, 10, 25, 50, 75, 100, 250, 500 or 750 ms, 1, 2.5, 5, 7.5 or 10 s";

/// A name that is short enough; a long one ends in a hash of what it was.
pub(crate) fn fitting(mut name: String) -> String {
    if name.len() > MAX_NAME {
        let mut hasher = FixedState::default().build_hasher();
        hasher.write(name.as_bytes());
        let hash = format!("~{:016x}", hasher.finish());
        let mut end = MAX_NAME - hash.len();
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        name.push_str(&hash);
    }
    name
}
