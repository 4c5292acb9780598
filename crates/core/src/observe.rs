use crate::Origin;

/// A handle that gives its counters and gauges when it is asked.
///
/// Layers keep plain atomics. Whoever collects (OpenTelemetry's observable instruments, a snapshot, a test) reads them
/// here, so that a call never pays for metrics.
pub trait Observe: Send + Sync {
    /// Whose figures these are.
    fn origin(&self) -> Origin;

    /// Calls `visit` with every figure, in a fixed order. It must not block.
    fn observe(&self, visit: &mut dyn FnMut(Metric));
}

/// One figure.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Metric {
    /// What is counted, in `snake_case`, without the layer's name and without a unit: `calls`, `state`.
    pub name: &'static str,
    /// The figure.
    pub value: Value,
    /// One label with few values, such as `("reason", "timed_out")`.
    pub label: Option<(&'static str, &'static str)>,
}

impl Metric {
    /// A figure without a label.
    pub const fn new(name: &'static str, value: Value) -> Self {
        Self { name, value, label: None }
    }

    /// The same with a label.
    #[must_use]
    pub const fn with_label(mut self, key: &'static str, value: &'static str) -> Self {
        self.label = Some((key, value));
        self
    }
}

/// A figure's kind and value.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Only ever grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(f64),
}
