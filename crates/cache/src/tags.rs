use std::collections::HashMap;

use crate::sync::{Acquire, AtomicU64, PoisonError, Relaxed, Release, RwLock};

/// Which tags were invalidated, and when: in epochs, which each invalidation begins.
///
/// There is no list of the keys that have a tag, which would have to be kept with every insertion and eviction. A value
/// knows the epoch in which its load began instead, and a hit in a later one looks whether one of its tags was invalidated
/// since. So a load that was under way when its tag was invalidated cannot bring back what it had read before.
///
/// Bounded: of too many tags the older half is forgotten, and whatever is older than that half counts as invalidated.
#[derive(Debug)]
pub(crate) struct Tags {
    epoch: AtomicU64,
    invalidated: RwLock<Invalidated>,
}

#[derive(Debug, Default)]
struct Invalidated {
    /// The epoch that the last invalidation of a tag began.
    tags: HashMap<Box<str>, u64>,
    /// Values of epochs before this one count as invalidated.
    floor: u64,
    /// The last one that began.
    epoch: u64,
}

/// The most tags that are remembered.
const MOST: usize = 8_192;

/// What a value with tags knows.
#[derive(Debug)]
pub(crate) struct Tagged {
    tags: Box<[String]>,
    /// Up to which epoch none of them was invalidated.
    epoch: AtomicU64,
}

impl Tagged {
    pub(crate) fn new(tags: Vec<String>, epoch: u64) -> Self {
        Self { tags: tags.into(), epoch: AtomicU64::new(epoch) }
    }
}

impl Tags {
    pub(crate) fn new() -> Self {
        Self { epoch: AtomicU64::new(0), invalidated: RwLock::new(Invalidated::default()) }
    }

    /// The epoch now: what begins to load takes it along.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Acquire)
    }

    pub(crate) fn invalidate(&self, tag: &str) {
        let mut invalidated = self.invalidated.write().unwrap_or_else(PoisonError::into_inner);
        invalidated.epoch += 1;
        let epoch = invalidated.epoch;
        if invalidated.tags.len() >= MOST && !invalidated.tags.contains_key(tag) {
            let mut epochs: Vec<u64> = invalidated.tags.values().copied().collect();
            let (_, floor, _) = epochs.select_nth_unstable(MOST / 2);
            let floor = *floor;
            invalidated.tags.retain(|_, epoch| *epoch > floor);
            invalidated.floor = floor;
        }
        invalidated.tags.insert(tag.into(), epoch);
        // After this a value of an earlier epoch asks, and waits for the lock.
        self.epoch.store(epoch, Release);
    }

    /// Whether one of its tags was invalidated since the load of this value began.
    pub(crate) fn hit(&self, tagged: &Tagged) -> bool {
        let epoch = self.epoch();
        let known = tagged.epoch.load(Relaxed);
        if known >= epoch || tagged.tags.is_empty() {
            return false;
        }
        let invalidated = self.invalidated.read().unwrap_or_else(PoisonError::into_inner);
        let hit = known < invalidated.floor
            || tagged.tags.iter().any(|tag| invalidated.tags.get(&**tag).is_some_and(|at| *at > known));
        if !hit {
            // The one of the look: what was invalidated since then is of a later one.
            tagged.epoch.fetch_max(invalidated.epoch, Relaxed);
        }
        hit
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models;

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    fn tagged(tags: &Tags, name: &str) -> Tagged {
        Tagged::new(vec![name.to_owned()], tags.epoch())
    }

    #[test]
    fn only_what_was_loaded_before_the_invalidation_is_hit() {
        let tags = Tags::new();
        let (before, other) = (tagged(&tags, "users"), tagged(&tags, "orders"));
        assert!(!tags.hit(&before));
        tags.invalidate("users");
        let after = tagged(&tags, "users");
        assert!(tags.hit(&before));
        assert!(!tags.hit(&after));
        assert!(!tags.hit(&other));
        tags.invalidate("orders");
        assert!(tags.hit(&before) && !tags.hit(&after) && tags.hit(&other));
    }

    #[test]
    fn of_too_many_tags_the_older_half_counts_as_invalidated_and_the_rest_is_exact() {
        let tags = Tags::new();
        let old = tagged(&tags, "never invalidated");
        for n in 0..MOST * 3 {
            tags.invalidate(&format!("tag {n}"));
        }
        let known = tags.invalidated.read().unwrap().tags.len();
        assert!((MOST / 2..=MOST).contains(&known), "{known}");
        assert!(tags.hit(&old));
        let new = tagged(&tags, "never invalidated");
        tags.invalidate("another");
        assert!(!tags.hit(&new));
    }
}
