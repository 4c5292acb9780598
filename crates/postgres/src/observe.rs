use std::{
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use buttress_core::{Metric, Observe, Origin, Setting, SettingValue, Value, WeakObserve};
use tokio::time::Instant;

use crate::{Postgres, connector::CONNECTING_SINCE};

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) queries: AtomicU64,
    pub(crate) transactions: AtomicU64,
    pub(crate) transactions_retried: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) discarded: AtomicU64,
    waited: AtomicU64,
    waited_micros: AtomicU64,
    pub(crate) wait_timeouts: AtomicU64,
}

/// A caller who waits because every connection is in use. Dropped, it has waited, with success or not.
pub(crate) struct Waiting<'a> {
    counters: &'a Counters,
    since: Instant,
}

impl<'a> Waiting<'a> {
    pub(crate) fn begin(counters: &'a Counters) -> Self {
        counters.waited.fetch_add(1, Relaxed);
        Self { counters, since: Instant::now() }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Who had to make a connection then did not wait for one of the others any more.
        let connecting_since = CONNECTING_SINCE.try_with(Cell::get).ok().flatten();
        let waited = connecting_since.unwrap_or_else(Instant::now) - self.since;
        self.counters.waited_micros.fetch_add(waited.as_micros().try_into().unwrap_or(u64::MAX), Relaxed);
    }
}

/// Gauges: `connections`, `connections_idle`, `connections_max` (with the overflow; 0 when closed), `overflow` (those
/// beyond the pool's size) and `waiting` (callers in the queue, or who are making a connection).
///
/// Counters: `queries` (statements that were right and in time, each of a pipeline's and a transaction's too), `transactions`, `transactions_retried` (runs of a closure after its first), `cancelled`
/// (statements or transactions left unfinished), `discarded`
/// (connections that were not handed on, with the cancelled ones), `created`, `expired` (connections closed because they
/// were idle or old), `slow_queries`, `waited` (callers for whom no place was free at once), `waited_time` (for how long, in microseconds, all of them
/// together) and `wait_timeouts`. Then the rejections.
impl Observe for Postgres {
    fn origin(&self) -> Origin {
        self.shared().origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.shared, |shared| Self { shared })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let shared = self.shared();
        let status = shared.pool.status();
        // Exact up to 2^53, which no pool reaches.
        #[allow(clippy::cast_precision_loss)]
        let gauge = |count: usize| Value::Gauge(count as f64);
        visit(Metric::new("connections", gauge(status.size)));
        visit(Metric::new("connections_idle", gauge(status.available.min(status.size))));
        let connector = shared.pool.manager();
        let (sizes, gate) = (&connector.overflow, &connector.overflow.gate);
        visit(Metric::new("connections_max", gauge(gate.most().min(status.max_size))));
        let overflow = status.size.saturating_sub(sizes.pool_size());
        visit(Metric::new("overflow", gauge(overflow)));
        visit(Metric::new("waiting", gauge(status.waiting + gate.waiting())));
        let counters = &shared.counters;
        for (name, counter) in [
            ("queries", &counters.queries),
            ("transactions", &counters.transactions),
            ("transactions_retried", &counters.transactions_retried),
            ("cancelled", &counters.cancelled),
            ("discarded", &counters.discarded),
            ("created", &connector.created),
            ("expired", &connector.expired),
            ("waited", &counters.waited),
            ("wait_timeouts", &counters.wait_timeouts),
        ] {
            visit(Metric::new(name, Value::Counter(counter.load(Relaxed))));
        }
        let micros = Value::Counter(counters.waited_micros.load(Relaxed));
        visit(Metric::new("waited_time", micros).with_unit("us"));
        let statistics = &shared.statistics;
        visit(Metric::new("slow_queries", Value::Counter(statistics.slow_count())));
        shared.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let shared = self.shared();
        let overflow = &shared.pool.manager().overflow;
        let count = |name, count: usize| Setting::new(name, SettingValue::Count(count as u64));
        for setting in &shared.settings {
            visit(match setting.name {
                "pool_size" => count("pool_size", overflow.pool_size()),
                "max_overflow" => count("max_overflow", overflow.max_overflow()),
                "slow_query" => {
                    let slow = shared.statistics.slow_threshold();
                    Setting::new("slow_query", slow.map_or(SettingValue::Off, SettingValue::Duration))
                }
                _ => *setting,
            });
        }
    }
}
