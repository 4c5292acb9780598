use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use buttress_core::{Metric, Observe, Origin, Value};

use crate::Postgres;

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) queries: AtomicU64,
    pub(crate) transactions: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) discarded: AtomicU64,
}

/// `connections`, `connections_idle`, `connections_max` and `waiting` (callers in the queue) are gauges. `queries`,
/// `transactions`, `cancelled` (statements or transactions left unfinished) and `discarded` (connections that were not
/// handed on, with the cancelled ones) are counters. Then the rejections.
impl Observe for Postgres {
    fn origin(&self) -> Origin {
        self.shared().origin
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let shared = self.shared();
        let status = shared.pool.status();
        // Exact up to 2^53, which no pool reaches.
        #[allow(clippy::cast_precision_loss)]
        let gauge = |count: usize| Value::Gauge(count as f64);
        visit(Metric::new("connections", gauge(status.size)));
        visit(Metric::new("connections_idle", gauge(status.available.min(status.size))));
        visit(Metric::new("connections_max", gauge(status.max_size)));
        visit(Metric::new("waiting", gauge(status.waiting)));
        let counters = &shared.counters;
        for (name, counter) in [
            ("queries", &counters.queries),
            ("transactions", &counters.transactions),
            ("cancelled", &counters.cancelled),
            ("discarded", &counters.discarded),
        ] {
            visit(Metric::new(name, Value::Counter(counter.load(Relaxed))));
        }
        shared.origin.observe_rejections(visit);
    }
}
