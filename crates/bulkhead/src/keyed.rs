use std::{
    borrow::Borrow,
    fmt,
    hash::{Hash, RandomState},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Reason, Rejected, Setting, Value, WeakObserve};
use quick_cache::{Lifecycle, UnitWeighter, sync::Cache};
use tokio::time::Instant;

use crate::{InvalidLimit, Limiter, config::Settings, steering::Steering};

/// What a bulkhead can be keyed by.
pub trait Key: Hash + Eq + Clone + Send + Sync + 'static {}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Key for K {}

/// A bulkhead for each key, at most so many.
///
/// All have the same name and the same settings. A key that has no call in flight, and that nobody asks for during a whole
/// [idle time](crate::KeyedLayer::idle), is forgotten; where there would be too many, those go that were asked for once or
/// long ago. A key with a call in flight or waiting, or whose [`Limiter`] somebody holds, always stays, so its limit is
/// never exceeded; where all are such, calls of new keys are refused.
///
/// Clones are the same bulkheads.
pub struct Limiters<K: Key>(Arc<Table<K>>);

struct Table<K: Key> {
    origin: Origin,
    settings: Settings,
    /// What all limits were set to.
    steering: Steering,
    capacity: usize,
    entries: Cache<K, Arc<Entry>, UnitWeighter, RandomState, StayInUse>,
    idle: Duration,
    swept: Mutex<Instant>,
}

/// The bulkhead of one key.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) limiter: Limiter,
    /// Whether anybody asked for it since it was last swept.
    used: AtomicBool,
    /// Whether there was room for it. The map itself makes room only where something may go.
    settled: AtomicBool,
}

#[derive(Debug, Clone, Copy, Default)]
struct StayInUse;

impl StayInUse {
    /// Asked under the lock of the map, which whoever takes an entry out of it needs too.
    fn is_in_use(entry: &Arc<Entry>) -> bool {
        Arc::strong_count(entry) > 1 || entry.limiter.is_in_use()
    }
}

impl<K> Lifecycle<K, Arc<Entry>> for StayInUse {
    type RequestState = ();

    fn is_pinned(&self, _: &K, entry: &Arc<Entry>) -> bool {
        Self::is_in_use(entry)
    }
}

impl<K: Key> Limiters<K> {
    pub(crate) fn new(origin: Origin, settings: Settings) -> Self {
        // A key's bulkhead is small: threads seldom meet at one.
        Self::of(origin, Settings { stripes: 1, ..settings }, 1_024, Duration::from_secs(600))
    }

    fn of(origin: Origin, settings: Settings, capacity: usize, idle: Duration) -> Self {
        let (weighter, hasher) = (UnitWeighter, RandomState::new());
        Self(Arc::new(Table {
            origin,
            settings,
            steering: Steering::new(),
            capacity,
            entries: Cache::with(capacity, capacity as u64, weighter, hasher, StayInUse),
            idle,
            swept: Mutex::new(Instant::now()),
        }))
    }

    pub(crate) fn with_capacity(&self, most: usize) -> Self {
        Self::of(self.0.origin, self.0.settings, most.max(1), self.0.idle)
    }

    pub(crate) fn with_idle(&self, idle: Duration) -> Self {
        Self::of(self.0.origin, self.0.settings, self.0.capacity, idle)
    }

    /// The bulkhead of that key, which is made where there is none.
    ///
    /// # Errors
    /// [`Rejected`] with [`Reason::Overloaded`] where it would be one too many, and every other one is in use.
    pub fn limiter(&self, key: &K) -> Result<Limiter, Rejected> {
        let entry = self.entry(key).ok_or_else(|| self.0.origin.reject(Reason::Overloaded))?;
        Ok(entry.limiter.clone())
    }

    /// Holding it keeps it from being forgotten.
    pub(crate) fn entry(&self, key: &K) -> Option<Arc<Entry>> {
        let table = &*self.0;
        let entry = match table.entries.get(key) {
            Some(entry) => entry,
            None => self.make(key),
        };
        // Looking first, so that the line stays with every reader.
        if !entry.used.load(Relaxed) {
            entry.used.store(true, Relaxed);
        }
        if !entry.settled.load(Relaxed) {
            if table.entries.len() > table.capacity {
                // Unless another call came for it: then it goes with the next that is made.
                table.entries.remove_if(key, |found| {
                    Arc::ptr_eq(found, &entry) && Arc::strong_count(found) == 2 && !entry.limiter.is_in_use()
                });
                return None;
            }
            entry.settled.store(true, Relaxed);
        }
        Some(entry)
    }

    #[cold]
    fn make(&self, key: &K) -> Arc<Entry> {
        let table = &*self.0;
        self.sweep();
        let made_with = table.steering.limit();
        let make = || {
            let limiter = Limiter::new(table.origin, table.settings);
            if made_with != 0 {
                limiter.set_allowed(made_with);
            }
            let (used, settled) = (AtomicBool::new(true), AtomicBool::new(false));
            Ok::<_, std::convert::Infallible>(Arc::new(Entry { limiter, used, settled }))
        };
        // It is held here while the map takes it in, so the map cannot but keep it.
        let Ok(entry) = table.entries.get_or_insert_with(key, make);
        if table.steering.catch_up(made_with, |limit| entry.limiter.set_allowed(limit)) {
            entry.limiter.inner().permits.attend();
        }
        entry
    }

    /// Forgets the keys that nobody asked for since the last time. Only when a key is new: then they matter.
    fn sweep(&self) {
        let Ok(mut swept) = self.0.swept.try_lock() else { return };
        let now = Instant::now();
        if now.saturating_duration_since(*swept) < self.0.idle {
            return;
        }
        *swept = now;
        // A key's own code runs next.
        drop(swept);
        self.0.entries.retain(|_, entry| entry.used.swap(false, Relaxed) || StayInUse::is_in_use(entry));
    }

    /// The bulkhead of that key, if there is one.
    #[must_use]
    pub fn get<Q>(&self, key: &Q) -> Option<Limiter>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.0.entries.peek(key).map(|entry| entry.limiter.clone())
    }

    /// Every key that has a bulkhead, with it, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<(K, Limiter)> {
        self.0.entries.iter().map(|(key, entry)| (key, entry.limiter.clone())).collect()
    }

    /// How many keys have a bulkhead.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.entries.len()
    }

    /// Whether no key has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.entries.is_empty()
    }

    /// How many keys can have one at the same time.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.0.capacity
    }

    /// Sets the limit of every key, from now on: see [`Limiter::set_limit`].
    ///
    /// # Errors
    /// As there. Then the limits stay as they are.
    pub fn set_limit(&self, limit: u32) -> Result<(), InvalidLimit> {
        self.0.settings.limit.allows(limit)?;
        let limiters = self.0.steering.set(limit, || {
            let limiters = self.all();
            limiters.iter().for_each(|(_, limiter)| limiter.set_allowed(limit));
            limiters
        });
        // Whoever waits is woken outside of every lock.
        limiters.iter().for_each(|(_, limiter)| limiter.inner().permits.attend());
        Ok(())
    }
}

impl<K: Key> Clone for Limiters<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Key> fmt::Debug for Limiters<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiters")
            .field("origin", &self.0.origin)
            .field("settings", &self.0.settings)
            .field("keys", &self.len())
            .finish_non_exhaustive()
    }
}

/// `keys`, the sums of `in_flight` and `waiting`, and the rejections of all.
impl<K: Key> Observe for Limiters<K> {
    fn origin(&self) -> Origin {
        self.0.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    #[expect(clippy::cast_precision_loss, reason = "there are fewer keys than a float can count")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let (mut keys, mut in_flight, mut waiting) = (0_u64, 0_u64, 0_u64);
        for (_, entry) in self.0.entries.iter() {
            let snapshot = entry.limiter.snapshot();
            keys += 1;
            in_flight += u64::from(snapshot.in_flight);
            waiting += u64::from(snapshot.waiting);
        }
        visit(Metric::new("keys", Value::Gauge(keys as f64)));
        visit(Metric::new("in_flight", Value::Gauge(in_flight as f64)));
        visit(Metric::new("waiting", Value::Gauge(waiting as f64)));
        self.0.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.0.settings.tell(visit);
    }
}
