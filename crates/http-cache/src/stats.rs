use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use buttress_core::{Metric, Value};

/// What the cache counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) hits: AtomicU64,
    pub(crate) stale: AtomicU64,
    pub(crate) misses: AtomicU64,
    pub(crate) collapsed: AtomicU64,
    pub(crate) revalidated: AtomicU64,
    pub(crate) stored: AtomicU64,
    pub(crate) cut: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    pub(crate) invalidations: AtomicU64,
    pub(crate) passed: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// The figures of a cache since it was built: see [`HttpCache::stats`](crate::HttpCache::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that were answered with a stored response that was fresh.
    pub hits: u64,
    /// Those that were answered with a stale one: the client took it, or it was being validated, or that failed.
    pub stale: u64,
    /// Those for which nothing stored would do: sent to the service, or waiting for another's answer, or refused because the
    /// client wanted nothing else.
    pub misses: u64,
    /// Those of them that another's answer served.
    pub collapsed: u64,
    /// Stored responses that the service said are still right, by `304`.
    pub revalidated: u64,
    /// Responses that were stored.
    pub stored: u64,
    /// Those that were not, because their body was cut short or too long.
    pub cut: u64,
    /// Validations in the background that were begun.
    pub refreshes: u64,
    /// Addresses that were invalidated, and how often everything was.
    pub invalidations: u64,
    /// Requests that no cache can answer, such as `POST`.
    pub passed: u64,
    /// Addresses that were driven out of the memory to make room.
    pub evicted: u64,
    /// Addresses with stored responses.
    pub addresses: u64,
    /// What those weigh, in bytes.
    pub weight: u64,
}

impl Stats {
    pub(crate) fn of(counters: &Counters, addresses: u64, weight: u64, evicted: u64) -> Self {
        Self {
            hits: counters.hits.load(Relaxed),
            stale: counters.stale.load(Relaxed),
            misses: counters.misses.load(Relaxed),
            collapsed: counters.collapsed.load(Relaxed),
            revalidated: counters.revalidated.load(Relaxed),
            stored: counters.stored.load(Relaxed),
            cut: counters.cut.load(Relaxed),
            refreshes: counters.refreshes.load(Relaxed),
            invalidations: counters.invalidations.load(Relaxed),
            passed: counters.passed.load(Relaxed),
            evicted,
            addresses,
            weight,
        }
    }

    pub(crate) fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let counters = [
            ("hits", self.hits),
            ("stale", self.stale),
            ("misses", self.misses),
            ("collapsed", self.collapsed),
            ("revalidated", self.revalidated),
            ("stored", self.stored),
            ("cut", self.cut),
            ("refreshes", self.refreshes),
            ("invalidations", self.invalidations),
            ("passed", self.passed),
            ("evicted", self.evicted),
        ];
        counters.into_iter().for_each(|(name, value)| visit(Metric::new(name, Value::Counter(value))));
        visit(Metric::new("addresses", Value::Gauge(self.addresses as f64)));
        visit(Metric::new("weight", Value::Gauge(self.weight as f64)).with_unit("By"));
    }
}
