use std::{
    hash::Hash,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Decision, Origin, Rejected};

use crate::{
    Flights, Memory, Stats,
    clock::{self, NEVER},
    config::Config,
    slot::{More, Slot},
    stats::{Counters, count},
    store::{Forget, Stored, Want},
    tags::{Tagged, Tags},
    tier::Tier,
};

/// What a leader brings to those who follow him.
#[derive(Clone)]
pub(crate) enum Brought<V> {
    Value(V, Since),
    Failed(Rejected),
    /// An error that says nothing of the backend, and is the caller's alone: each who waits asks for himself.
    Apart,
}

/// When a load began, and what may have made its value untrue since then.
#[derive(Clone)]
pub(crate) struct Since {
    /// In the epochs of [`Tags`].
    pub(crate) epoch: u64,
    pub(crate) tags: OfValue,
}

#[derive(Clone)]
pub(crate) enum OfValue {
    /// None, or it was looked at them a moment ago.
    None,
    Some(Arc<More>),
    /// It is not kept: nobody asked.
    Unknown,
}

/// What all clones of a cache, and all services made by its layers, share.
pub(crate) struct Inner<K, V> {
    pub(crate) origin: Origin,
    pub(crate) memory: Memory<K, Slot<V>>,
    pub(crate) flights: Arc<Flights<K, Brought<V>>>,
    pub(crate) tags: Tags,
    pub(crate) counters: Counters,
    pub(crate) config: Config<K, V>,
    pub(crate) tier: Option<Tier<K, V>>,
    /// Keys whose refresh failed, and until when none is tried.
    resting: Memory<K, u64>,
}

/// After a refresh that failed there is no other for so long.
const REST: Duration = Duration::from_secs(1);

/// A value and what it was judged to be worth, before it is kept.
pub(crate) struct Judged<V> {
    pub(crate) slot: Slot<V>,
    pub(crate) weight: u64,
    /// For the store, where there is one.
    pub(crate) stored: Option<Stored<V>>,
}

impl<V: Clone> Judged<V> {
    /// The value, for whoever waits for it, of a load that began in this epoch.
    pub(crate) fn brought(&self, epoch: u64) -> Brought<V> {
        let tags = self.slot.more.as_ref().map_or(OfValue::None, |more| OfValue::Some(more.clone()));
        Brought::Value(self.slot.value.clone(), Since { epoch, tags })
    }
}

impl<V> Brought<V> {
    /// A value that nobody has to doubt.
    pub(crate) const fn now(value: V) -> Self {
        Self::Value(value, Since { epoch: u64::MAX, tags: OfValue::None })
    }
}

impl<K, V> Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(origin: Origin, config: Config<K, V>, tier: Option<Tier<K, V>>) -> Self {
        Self {
            origin,
            memory: Memory::new(config.max_weight, config.estimated_entries()),
            flights: Arc::new(Flights::new()),
            tags: Tags::new(),
            counters: Counters::default(),
            config,
            tier,
            resting: Memory::new(1_024, 1_024),
        }
    }

    /// A fresh value in memory. It is counted as a hit.
    #[inline(always)]
    pub(crate) fn fresh(&self, key: &K) -> Option<V> {
        let slot = self.memory.get(key)?;
        if slot.more.is_none() && (slot.until == NEVER || clock::now() < slot.until) {
            self.counters.hit();
            return Some(slot.value);
        }
        self.fresh_after_all(slot)
    }

    #[inline(never)]
    fn fresh_after_all(&self, slot: Slot<V>) -> Option<V> {
        let fresh = self.is_valid(&slot) && (slot.until == NEVER || clock::now() < slot.until);
        fresh.then(|| {
            self.counters.hit();
            slot.value
        })
    }

    /// A value past its time, with the time. One whose tag was invalidated is none.
    fn past(&self, key: &K) -> Option<Slot<V>> {
        let slot = self.memory.get(key)?;
        self.is_valid(&slot).then_some(slot)
    }

    fn is_valid(&self, slot: &Slot<V>) -> bool {
        let Some(more) = &slot.more else { return true };
        !self.tags.hit(&more.tagged) && self.config.idle.is_none_or(|idle| !more.was_idle(idle))
    }

    /// A value that may be served while it is loaded anew, and whether it is time to do so.
    pub(crate) fn while_revalidating(&self, key: &K) -> Option<(V, bool)> {
        let window = self.config.revalidate;
        if window == 0 {
            return None;
        }
        let slot = self.past(key)?;
        let now = clock::now();
        if now >= slot.until.saturating_add(window) {
            return None;
        }
        let rests = self.resting.get(key).is_some_and(|until| now < until);
        Some((slot.value, !rests && now >= slot.until))
    }

    /// A value that may be served because the load failed, or the refresh.
    pub(crate) fn on_error(&self, key: &K, refreshes: bool) -> Option<V> {
        let window = if refreshes { self.config.stale() } else { self.config.on_error };
        if window == 0 {
            return None;
        }
        let slot = self.past(key)?;
        (clock::now() < slot.until.saturating_add(window)).then_some(slot.value)
    }

    /// For whoever asks why a value past its time was served.
    pub(crate) fn note_stale(&self, key: &K, because: &str) {
        Decision::note(self.origin, "served_stale", || {
            let since = self.past(key).map_or(0, |slot| clock::now().saturating_sub(slot.until));
            format!("{:.1?} past its time: {because}", Duration::from_nanos(since))
        });
    }

    /// After a refresh that failed.
    pub(crate) fn rest(&self, key: &K) {
        self.resting.insert(key.clone(), clock::end(clock::now(), REST), 1);
    }

    /// What a store is asked for.
    pub(crate) fn wanted(&self) -> Want {
        if self.config.stale() > 0 { Want::Any } else { Want::Fresh }
    }

    /// What a loaded value is worth; nothing if it is not to be kept. Calls the user's functions.
    pub(crate) fn judge(&self, key: &K, value: &V, epoch: u64) -> Option<Judged<V>> {
        let config = &self.config;
        let life = match &config.expiry {
            Some(expiry) => expiry(key, value)?,
            None => config.ttl,
        };
        if life.is_zero() {
            return None;
        }
        let life = config.jittered(life);
        let tags = config.tags.as_ref().map_or_else(Vec::new, |tags| tags(key, value));
        let stored = self.tier.is_some().then(|| Stored {
            value: value.clone(),
            fresh_for: life,
            stale_for: Duration::from_nanos(config.stale()),
            tags: tags.clone(),
        });
        Some(Judged {
            weight: config.weigh(key, value),
            slot: self.slot(value.clone(), life, tags, epoch),
            stored,
        })
    }

    /// The same for what the store had.
    pub(crate) fn judge_stored(&self, key: &K, stored: Stored<V>, epoch: u64) -> Judged<V> {
        let weight = self.config.weigh(key, &stored.value);
        let past = stored.fresh_for.is_zero();
        let mut slot = self.slot(stored.value, stored.fresh_for, stored.tags, epoch);
        if past {
            let since = self.config.stale().saturating_sub(clock::nanos(stored.stale_for));
            slot.until = clock::now().saturating_sub(since);
        }
        Judged { weight, slot, stored: None }
    }

    /// Whether what the store had may be served, be it only while it is loaded anew.
    pub(crate) fn serves(&self, stored: &Stored<V>) -> bool {
        let since = self.config.stale().saturating_sub(clock::nanos(stored.stale_for));
        !stored.fresh_for.is_zero() || since < self.config.revalidate
    }

    fn slot(&self, value: V, life: Duration, tags: Vec<String>, epoch: u64) -> Slot<V> {
        let plain = tags.is_empty() && self.config.idle.is_none();
        let more = (!plain).then(|| Arc::new(More::new(Tagged::new(tags, epoch))));
        Slot { value, until: clock::end(clock::now(), life), more }
    }

    /// Whether a value that somebody brought had been invalidated by a tag before the caller asked for it, in this epoch.
    pub(crate) fn is_outdated(&self, since: &Since, asked_in: u64) -> bool {
        asked_in > since.epoch
            && match &since.tags {
                OfValue::None => false,
                OfValue::Some(more) => self.tags.hit(&more.tagged),
                OfValue::Unknown => self.config.tags.is_some(),
            }
    }

    pub(crate) fn keep(&self, key: &K, judged: Judged<V>) {
        self.memory.insert(key.clone(), judged.slot, judged.weight);
        if self.config.revalidate > 0 {
            self.resting.remove(key);
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let counters = &self.counters;
        Stats {
            hits: counters.hits(),
            stale: counters.stale.load(Relaxed),
            misses: counters.misses(),
            coalesced: counters.coalesced.load(Relaxed),
            loads: counters.loads(),
            failures: counters.failures.load(Relaxed),
            refreshes: counters.refreshes.load(Relaxed),
            invalidations: counters.invalidations.load(Relaxed),
            passed: counters.passed.load(Relaxed),
            store_hits: counters.store_hits.load(Relaxed),
            store_errors: counters.store_errors.load(Relaxed),
            evicted: self.memory.evicted(),
            entries: self.memory.len() as u64,
            weight: self.memory.weight(),
        }
    }
}

/// First the loads on their way, then what is there: one that ends in between is not kept, or is there already.
impl<K, V> Forget<K> for Inner<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn forget(&self, key: &K) {
        count(&self.counters.invalidations);
        self.flights.detach(key);
        self.memory.remove(key);
    }

    fn forget_tag(&self, tag: &str) {
        count(&self.counters.invalidations);
        self.tags.invalidate(tag);
    }

    fn forget_all(&self) {
        count(&self.counters.invalidations);
        self.flights.detach_all();
        self.memory.clear();
    }
}
