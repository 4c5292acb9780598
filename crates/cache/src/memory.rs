use std::{fmt, hash::Hash, sync::Arc};

use foldhash::fast::RandomState;
use quick_cache::{
    Lifecycle, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use crate::stats::Tally;

/// Values in memory, bounded by their weight: a concurrent S3-FIFO cache. Every operation takes constant time.
///
/// Threads share locks only where their keys fall into the same shard. A value is cloned out of it, so it should be an
/// `Arc` or as cheap.
///
/// A value that alone weighs more than a shard's part of the weight is not kept, and one that was there under its key is
/// gone. There are as many shards as a few times the processors, but never one that would hold less than 32 average values.
pub struct Memory<K, V> {
    cache: Cache<K, Weighed<V>, ByWeight, RandomState, Counting<K, Weighed<V>>>,
    evicted: Arc<Tally>,
}

#[derive(Clone)]
struct Weighed<V> {
    value: V,
    weight: u64,
}

#[derive(Clone, Copy)]
struct ByWeight;

impl<K, V> Weighter<K, Weighed<V>> for ByWeight {
    fn weight(&self, _key: &K, value: &Weighed<V>) -> u64 {
        value.weight
    }
}

/// Counts what is driven out to make room. It is dropped after the lock was given back, as in the default of quick_cache.
struct Counting<K, V> {
    evicted: Arc<Tally>,
    inner: DefaultLifecycle<K, V>,
}

impl<K, V> Clone for Counting<K, V> {
    fn clone(&self) -> Self {
        Self { evicted: self.evicted.clone(), inner: self.inner.clone() }
    }
}

impl<K, V> Lifecycle<K, V> for Counting<K, V> {
    type RequestState = <DefaultLifecycle<K, V> as Lifecycle<K, V>>::RequestState;

    // Not in `on_evict`, which is told of what is replaced as well.
    fn before_evict(&self, _: &mut Self::RequestState, _: &K, _: &mut V) {
        self.evicted.add_one();
    }

    fn on_evict(&self, state: &mut Self::RequestState, key: K, value: V) {
        self.inner.on_evict(state, key, value);
    }
}

impl<K: Hash + Eq, V: Clone> Memory<K, V> {
    /// A memory for values that weigh `max_weight` together, about `estimated_items` of them. The estimate decides how many
    /// shards there are; it may be wrong by a factor of ten.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "it does not")]
    pub fn new(max_weight: u64, estimated_items: usize) -> Self {
        let evicted = Arc::new(Tally::default());
        let options = OptionsBuilder::new()
            .estimated_items_capacity(estimated_items.max(1))
            .weight_capacity(max_weight)
            .build()
            .expect("both figures were given");
        let lifecycle = Counting { evicted: evicted.clone(), inner: DefaultLifecycle::default() };
        Self { cache: Cache::with_options(options, ByWeight, RandomState::default(), lifecycle), evicted }
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, key: &K) -> Option<V> {
        self.cache.get(key).map(|weighed| weighed.value)
    }

    /// Keeps a value, in place of the one that was there. Zero counts as one: what weighs nothing would not be bounded.
    pub fn insert(&self, key: K, value: V, weight: u64) {
        // The sum of the weights of a shard must not overflow.
        self.cache.insert(key, Weighed { value, weight: weight.clamp(1, u64::MAX >> 16) });
    }

    /// Removes a key. Says whether it was there.
    pub fn remove(&self, key: &K) -> bool {
        self.cache.remove(key).is_some()
    }

    /// Removes a key if `condition` holds of its value. Says whether it was removed.
    pub fn remove_if(&self, key: &K, condition: impl FnOnce(&V) -> bool) -> bool {
        self.cache.remove_if(key, |weighed| condition(&weighed.value)).is_some()
    }

    /// Removes everything.
    pub fn clear(&self) {
        self.cache.clear();
    }

    /// How many values there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// What the values weigh together.
    #[must_use]
    pub fn weight(&self) -> u64 {
        self.cache.weight()
    }

    /// How many values were driven out to make room for others.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.sum()
    }
}

impl<K, V> fmt::Debug for Memory<K, V> {
    /// Shows no key and no value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("evicted", &self.evicted.sum()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_is_bounded_and_what_is_driven_out_is_counted() {
        let memory = Memory::new(1_000, 100);
        (0..10_000_u64).for_each(|key| memory.insert(key, key, 10));
        assert!(memory.weight() <= 1_000, "{}", memory.weight());
        assert!(memory.weight() >= 900, "{}", memory.weight());
        assert_eq!(memory.evicted() + memory.len() as u64, 10_000);
        let memory = Memory::new(1_000, 100);
        (0..10_000_u64).for_each(|n| memory.insert(n % 10, n, 10));
        assert_eq!((memory.evicted(), memory.len()), (0, 10));
    }

    #[test]
    fn what_weighs_nothing_counts_as_one() {
        let memory = Memory::new(100, 100);
        (0..10_000_u64).for_each(|key| memory.insert(key, (), 0));
        assert!(memory.len() <= 100);
    }

    #[test]
    fn a_value_that_is_too_heavy_is_not_kept_and_neither_is_the_one_before_it() {
        let memory = Memory::new(1_000, 10);
        memory.insert("key", "old", 1);
        memory.insert("key", "new", u64::MAX);
        assert_eq!(memory.get(&"key"), None);
        assert_eq!(memory.weight(), 0);
    }
}
