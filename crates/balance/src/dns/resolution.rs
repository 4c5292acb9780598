use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Backoff, Metric, Observe, Origin, Setting, SettingValue, Value, WeakObserve};
use tokio::time::Instant;

use super::Ttl;

/// The figures of a name's lookups, made by [`DnsEndpoints::resolution`](crate::DnsEndpoints::resolution).
#[derive(Debug, Clone)]
pub struct Resolution(Arc<Figures>);

#[derive(Debug)]
struct Figures {
    origin: Origin,
    ttl: Ttl,
    backoff: Backoff,
    lookups: AtomicU64,
    failures: AtomicU64,
    addresses: AtomicUsize,
    answered_at: Mutex<Option<Instant>>,
}

impl Resolution {
    pub(crate) fn new(host: &str, ttl: Ttl, backoff: Backoff) -> Self {
        Self(Arc::new(Figures {
            origin: Origin::new("dns", host),
            ttl,
            backoff,
            lookups: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            addresses: AtomicUsize::new(0),
            answered_at: Mutex::new(None),
        }))
    }

    /// How many lookups have ended.
    #[must_use]
    pub fn lookups(&self) -> u64 {
        self.0.lookups.load(Relaxed)
    }

    /// How many of them brought no address.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.0.failures.load(Relaxed)
    }

    /// How many addresses the last good answer had.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.0.addresses.load(Relaxed)
    }

    /// How old the last good answer is. `None` before the first one.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        let answered_at = *self.0.answered_at.lock().unwrap_or_else(PoisonError::into_inner);
        answered_at.map(|at| at.elapsed())
    }

    pub(crate) fn answered(&self, addresses: usize) {
        self.0.lookups.fetch_add(1, Relaxed);
        self.0.addresses.store(addresses, Relaxed);
        *self.0.answered_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn missed(&self) {
        self.0.lookups.fetch_add(1, Relaxed);
        self.0.failures.fetch_add(1, Relaxed);
    }
}

impl Observe for Resolution {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("lookups", Value::Counter(self.lookups())));
        visit(Metric::new("failures", Value::Counter(self.failures())));
        visit(Metric::new("addresses", Value::Gauge(self.addresses() as f64)));
        if let Some(age) = self.age() {
            visit(Metric::new("answer_age", Value::Gauge(age.as_secs_f64())).with_unit("s"));
        }
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let Figures { ttl, backoff, .. } = &*self.0;
        visit(Setting::new("ttl_floor", SettingValue::Duration(ttl.floor)));
        visit(Setting::new("ttl_ceiling", SettingValue::Duration(ttl.ceiling)));
        visit(Setting::new("backoff_first", SettingValue::Duration(backoff.first())));
        visit(Setting::new("backoff_cap", SettingValue::Duration(backoff.cap())));
        visit(Setting::new("backoff_factor", SettingValue::Ratio(backoff.factor())));
    }
}
