use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::{Kind, Latency, OperationSnapshot, Snapshot};

impl Snapshot {
    /// What happened since an earlier snapshot: counters are differences, quantiles those of the calls between, gauges as
    /// they are now. What was not there earlier counts from nothing, also a layer that has been made anew.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut all = self.clone();
        all.seconds = self.read_at.saturating_duration_since(earlier.read_at).as_secs_f64();
        all.slow_calls = self.slow_calls.saturating_sub(earlier.slow_calls);
        all.process.cpu_seconds = self
            .process
            .cpu_seconds
            .zip(earlier.process.cpu_seconds)
            .map(|(now, before)| (now - before).max(0.0));
        let layers: HashMap<_, _, RandomState> =
            earlier.layers.iter().map(|layer| ((layer.layer, layer.name), layer)).collect();
        for layer in &mut all.layers {
            let before = layers.get(&(layer.layer, layer.name));
            for figure in layer.figures.iter_mut().filter(|figure| figure.kind == Kind::Counter) {
                let old = before.and_then(|before| before.figure(figure.name, figure.label));
                // One that is smaller now is another layer's of the same name.
                figure.value =
                    old.filter(|old| *old <= figure.value).map_or(figure.value, |old| figure.value - old);
            }
        }
        let calls_before: HashMap<_, _, RandomState> =
            earlier.calls.iter().map(|calls| (calls.source, calls)).collect();
        for calls in &mut all.calls {
            let Some(before) = calls_before.get(&calls.source) else { continue };
            calls.total = calls.total.since(&before.total);
            let pairs = calls.within.iter_mut().zip(&before.within);
            pairs.for_each(|(now, before)| *now = now.saturating_sub(*before));
            for operation in &mut calls.operations {
                let same = before.operations.iter().find(|old| old.operation == operation.operation);
                if let Some(old) = same {
                    *operation = operation.since(old);
                }
            }
        }
        all
    }
}

impl OperationSnapshot {
    fn since(&self, earlier: &Self) -> Self {
        let mut errors = self.errors.clone();
        for error in &mut errors {
            let before = earlier.errors.iter().find(|old| old.kind == error.kind);
            error.count = error.count.saturating_sub(before.map_or(0, |old| old.count));
        }
        let mut all = Self {
            operation: self.operation.clone(),
            success: self.success.saturating_sub(earlier.success),
            failure: self.failure.saturating_sub(earlier.failure),
            ignored: self.ignored.saturating_sub(earlier.ignored),
            throttled: self.throttled.saturating_sub(earlier.throttled),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            cancelled: self.cancelled.saturating_sub(earlier.cancelled),
            panicked: self.panicked.saturating_sub(earlier.panicked),
            errors,
            latency: Latency {
                sketch: self.latency.sketch.since(&earlier.latency.sketch),
                ..Latency::default()
            },
        };
        all.finish();
        all
    }
}
