use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Setting, SettingValue, Value, WeakObserve};
use fred::{clients::Client, interfaces::ClientLike};

/// It lives as long as its store, and has no other tie to the connection than the driver's client.
#[derive(Debug)]
pub(super) struct Counters {
    client: Client,
    pub(super) unreadable: AtomicU64,
    pub(super) unstorable: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) waits: AtomicU64,
    pub(super) flushes: AtomicU64,
}

impl Counters {
    pub(super) const fn new(client: Client) -> Self {
        Self {
            client,
            unreadable: AtomicU64::new(0),
            unstorable: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
        }
    }
}

/// What a store was told to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knobs {
    pub(super) version: u8,
    pub(super) lease: Duration,
    pub(super) limit: usize,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// The figures of a store since it was connected. The cache counts what it found and what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Entries found that are not values: of another version, damaged, or above the limit. They were loaded anew.
    pub unreadable: u64,
    /// Values that were not stored: above the limit, with more than 64 tags, with a tag or a key that is too long, such as cannot be
    /// serialized or read back, or while Redis had no memory left.
    pub unstorable: u64,
    /// Loaded values that were not stored, because they were invalidated meanwhile, or their lease had ended.
    pub refused: u64,
    /// Times that it was waited for another process's load.
    pub waits: u64,
    /// Times that all memory was forgotten, because something may have been missed.
    pub flushes: u64,
}

/// Reads the figures of a [`RedisStore`](crate::cache::RedisStore) that was given to its cache.
#[derive(Clone)]
pub struct StoreWatch {
    pub(super) origin: Origin,
    pub(super) knobs: Knobs,
    pub(super) counters: Arc<Counters>,
}

impl StoreWatch {
    /// Whether the store's connection is up. For health checks: without it, the cache is this process's alone.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.counters.client.is_connected()
    }

    /// The figures now.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let counters = &self.counters;
        StoreStats {
            unreadable: counters.unreadable.load(Relaxed),
            unstorable: counters.unstorable.load(Relaxed),
            refused: counters.refused.load(Relaxed),
            waits: counters.waits.load(Relaxed),
            flushes: counters.flushes.load(Relaxed),
        }
    }
}

impl Observe for StoreWatch {
    fn origin(&self) -> Origin {
        self.origin
    }

    fn downgrade(&self) -> WeakObserve {
        let (origin, knobs) = (self.origin, self.knobs);
        WeakObserve::of(&self.counters, move |counters| Self { origin, knobs, counters })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let stats = self.stats();
        let counters = [
            ("unreadable", stats.unreadable),
            ("unstorable", stats.unstorable),
            ("refused", stats.refused),
            ("waits", stats.waits),
            ("flushes", stats.flushes),
        ];
        visit(Metric::new("connected", Value::Gauge(f64::from(u8::from(self.is_connected())))));
        counters.into_iter().for_each(|(name, value)| visit(Metric::new(name, Value::Counter(value))));
    }

    /// As they were when [`watch`](crate::cache::RedisStore::watch) was called.
    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let Knobs { version, lease, limit } = self.knobs;
        visit(Setting::new("version", SettingValue::Count(version.into())));
        visit(Setting::new("lease", SettingValue::Duration(lease)));
        visit(Setting::new("max_value", SettingValue::Count(limit as u64)));
    }
}

impl fmt::Debug for StoreWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreWatch").field("origin", &self.origin).finish_non_exhaustive()
    }
}
