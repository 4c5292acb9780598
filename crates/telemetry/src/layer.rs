use std::{fmt, sync::Arc, time::Duration};

use buttress_core::{ByError, Metric, Observe, Origin, Setting, SettingValue, Value, WeakObserve};
use tower_layer::Layer;

use crate::{
    Convention, Measured, Plain, RegisterError, Registry, Slow,
    recording::{Loan, Recording, common},
    source::{End, Source},
    span::SpanSettings,
};

/// Measures how long calls take and how they end, makes their spans, and keeps the slow ones.
///
/// See the [crate's documentation](crate). Put it outermost, and another one beside the adapter where single attempts are to be
/// seen. Clones, and all services that it makes, count together.
pub struct TelemetryLayer<V = Plain, C = ByError> {
    loan: Arc<Loan>,
    convention: V,
    classify: C,
}

impl TelemetryLayer {
    /// The calls of any service, with the default of every knob: no operations, slow after a second.
    ///
    /// # Errors
    /// When another telemetry layer that lives has this name in the registry, or the registry is full.
    pub fn new(name: &str, registry: &Registry) -> Result<Self, RegisterError> {
        Self::builder(name, registry).build()
    }

    /// One with knobs of its own. The name stands in metrics, spans and snapshots; it is kept for the life of the process.
    pub fn builder<'a>(name: &str, registry: &'a Registry) -> TelemetryLayerBuilder<'a, Plain, ByError> {
        TelemetryLayerBuilder {
            registry,
            origin: Origin::new("telemetry", name),
            convention: Plain,
            classify: ByError,
            slow: Slow::After(Duration::from_secs(1)),
            max_operations: 64,
        }
    }
}

impl<V, C> TelemetryLayer<V, C> {
    /// Which calls are slow, from now on: of those that are on their way already, those that end from then on. What 99 % of
    /// the calls take is known from the time when that was first asked for.
    ///
    /// # Errors
    /// As [`build`](TelemetryLayerBuilder::build) where the factor of [`Slow::OverP99`] is less than 1 or no number. Then
    /// nothing changes.
    pub fn set_slow(&self, slow: Slow) -> Result<(), RegisterError> {
        check(slow, self.loan.lent.origin)?;
        self.loan.lent.set_slow(slow);
        Ok(())
    }
}

fn check(slow: Slow, origin: Origin) -> Result<(), RegisterError> {
    match slow {
        Slow::OverP99(factor) if !(1.0..f64::INFINITY).contains(&factor) => {
            Err(RegisterError::InvalidFactor { name: origin.name() })
        }
        _ => Ok(()),
    }
}

impl<V: Clone, C: Clone> Clone for TelemetryLayer<V, C> {
    fn clone(&self) -> Self {
        Self {
            loan: Arc::clone(&self.loan),
            convention: self.convention.clone(),
            classify: self.classify.clone(),
        }
    }
}

impl<S, V: Clone, C: Clone> Layer<S> for TelemetryLayer<V, C> {
    type Service = Measured<S, V, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Measured::new(inner, Arc::clone(&self.loan), self.convention.clone(), self.classify.clone())
    }
}

/// `calls` by their `end`, and how many are `in_flight`.
impl<V: Send + Sync, C: Send + Sync> Observe for TelemetryLayer<V, C> {
    fn origin(&self) -> Origin {
        self.loan.lent.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.loan, |loan| TelemetryLayer { loan, convention: Plain, classify: ByError })
    }

    #[expect(clippy::cast_precision_loss, reason = "nobody has so many calls in flight")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("in_flight", Value::Gauge(self.loan.in_flight() as f64)));
        let mut counts = [0; End::ALL.len()];
        for (_, way, latencies) in self.loan.ways() {
            counts[way.end() as usize] += latencies.count();
        }
        for end in End::ALL {
            let count = counts[end as usize];
            visit(Metric::new("calls", Value::Counter(count)).with_label("end", end.word()));
        }
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        match self.loan.lent.slow() {
            Slow::After(after) => visit(Setting::new("slow_after", SettingValue::Duration(after))),
            Slow::OverP99(factor) => visit(Setting::new("slow_over_p99", SettingValue::Ratio(factor))),
        }
        visit(Setting::new("max_operations", SettingValue::Count(self.loan.lent.max_operations as u64)));
    }
}

impl<V, C> fmt::Debug for TelemetryLayer<V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetryLayer").field("origin", &self.loan.lent.origin).finish_non_exhaustive()
    }
}

/// A telemetry layer that is about to be made: by [`TelemetryLayer::builder`].
#[derive(Debug)]
#[must_use = "it does nothing before `build`"]
pub struct TelemetryLayerBuilder<'a, V, C> {
    registry: &'a Registry,
    origin: Origin,
    convention: V,
    classify: C,
    slow: Slow,
    max_operations: usize,
}

impl<'a, V, C> TelemetryLayerBuilder<'a, V, C> {
    /// What its calls are called in metrics and spans, such as [`HttpClient`](crate::HttpClient). [`Plain`] by default.
    pub fn convention<W>(self, convention: W) -> TelemetryLayerBuilder<'a, W, C> {
        let Self { registry, origin, classify, slow, max_operations, .. } = self;
        TelemetryLayerBuilder { registry, origin, convention, classify, slow, max_operations }
    }

    /// What a result says about the backend. [`ByError`] by default; give it the classifier of the stack's breaker.
    pub fn classify<D>(self, classify: D) -> TelemetryLayerBuilder<'a, V, D> {
        let Self { registry, origin, convention, slow, max_operations, .. } = self;
        TelemetryLayerBuilder { registry, origin, convention, classify, slow, max_operations }
    }

    /// Which calls are slow: those over a second by default.
    pub fn slow(self, slow: Slow) -> Self {
        Self { slow, ..self }
    }

    /// How many operations are told apart at most, 64 by default; the others are `_OTHER`. At least 1, at most 4,096.
    pub fn max_operations(self, max: usize) -> Self {
        Self { max_operations: max.clamp(1, 4096), ..self }
    }

    /// The layer, which the registry reads from now on.
    ///
    /// # Errors
    /// When another telemetry layer that lives has this name in the registry, the registry is full, or the factor of
    /// [`Slow::OverP99`] is less than 1 or no number.
    pub fn build(self) -> Result<TelemetryLayer<V, C>, RegisterError>
    where
        V: Convention,
    {
        let Self { registry, origin, convention, classify, slow, max_operations } = self;
        check(slow, origin)?;
        let span = SpanSettings {
            name: origin.name(),
            side: convention.side(),
            common: common(origin.name(), convention.common()),
        };
        let recording = Recording::new(origin, convention.metric(), span, slow, max_operations);
        let loan = Arc::new(Loan::of(recording, registry.slow_log()));
        let source: Arc<dyn Source> = Arc::clone(&loan) as Arc<dyn Source>;
        registry.add_source(&source)?;
        Ok(TelemetryLayer { loan, convention, classify })
    }
}
