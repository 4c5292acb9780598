use buttress_core::{Metric, Value};

/// What a batcher counted since it was made: see [`Batch::stats`](crate::Batch::stats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Batches that were sent, those of lone callers included. One that is bisected is one batch.
    pub batches: u64,
    /// Callers whose requests were in them.
    pub items: u64,
    /// How often a batch, or a part of one, was halved.
    pub splits: u64,
    /// Batches that failed as a whole: by an error, a panic, or a wrong number of results. Not those that bisection has
    /// isolated the poison of.
    pub failed: u64,
    /// Calls that did not come to their end, because the last caller had gone or a lone caller's panicked.
    pub abandoned: u64,
    /// Requests that wait now.
    pub waiting: usize,
}

impl Stats {
    /// How many callers took part in a batch on the average. Zero before the first one.
    #[must_use]
    pub fn mean_size(&self) -> f64 {
        if self.batches == 0 { 0.0 } else { self.items as f64 / self.batches as f64 }
    }

    pub(crate) fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let counters = [
            ("batches", self.batches),
            ("items", self.items),
            ("splits", self.splits),
            ("failed", self.failed),
            ("abandoned", self.abandoned),
        ];
        counters.into_iter().for_each(|(name, value)| visit(Metric::new(name, Value::Counter(value))));
        visit(Metric::new("waiting", Value::Gauge(self.waiting as f64)));
        visit(Metric::new("mean_size", Value::Gauge(self.mean_size())));
    }
}
