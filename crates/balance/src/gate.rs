//! How many endpoints a source may bring.

use std::{
    collections::{HashSet, VecDeque},
    hash::Hash,
    num::NonZeroUsize,
};

use crate::{Change, Endpoint};

/// How many endpoints are balanced over, unless it is told otherwise.
pub(crate) const MAX_ENDPOINTS: NonZeroUsize = NonZeroUsize::new(1_000).unwrap();

/// So many at least are kept for a place that becomes free: a source that has replaced all it brings, and says first what
/// is new, must not end up with nothing.
const MAX_WAITING: usize = MAX_ENDPOINTS.get();

/// Lets no more than so many endpoints in, first come, first served; as many wait for a place. What comes then is left out.
#[derive(Debug)]
pub(crate) struct Gate<K, S> {
    inside: HashSet<K>,
    limit: usize,
    waiting: VecDeque<(K, Endpoint<S>)>,
}

/// What becomes of a change.
#[derive(Debug)]
pub(crate) enum Passed<K, S> {
    /// It is to be applied.
    Through(Change<K, S>),
    /// It makes room for another one, which is to be applied before it.
    InExchange(K, Endpoint<S>, Change<K, S>),
    /// There is no room now, or never was.
    Full,
    /// It says nothing new.
    Nothing,
}

impl<K: Eq + Hash + Clone, S> Gate<K, S> {
    pub(crate) fn new(limit: usize) -> Self {
        Self { inside: HashSet::new(), limit, waiting: VecDeque::new() }
    }

    pub(crate) fn pass(&mut self, change: Change<K, S>) -> Passed<K, S> {
        match change {
            Change::Insert(key, endpoint) => self.insert(key, endpoint),
            Change::Remove(key) => self.remove(key),
        }
    }

    fn insert(&mut self, key: K, endpoint: Endpoint<S>) -> Passed<K, S> {
        if !self.inside.contains(&key) && self.inside.len() >= self.limit {
            if let Some((_, waiting)) = self.waiting.iter_mut().find(|(waiting, _)| *waiting == key) {
                *waiting = endpoint;
            } else if self.waiting.len() < self.limit.max(MAX_WAITING) {
                self.waiting.push_back((key, endpoint));
            }
            return Passed::Full;
        }
        self.inside.insert(key.clone());
        Passed::Through(Change::Insert(key, endpoint))
    }

    fn remove(&mut self, key: K) -> Passed<K, S> {
        if !self.inside.remove(&key) {
            self.waiting.retain(|(waiting, _)| *waiting != key);
            return Passed::Nothing;
        }
        match self.waiting.pop_front() {
            Some((next, endpoint)) => {
                self.inside.insert(next.clone());
                Passed::InExchange(next, endpoint, Change::Remove(key))
            }
            None => Passed::Through(Change::Remove(key)),
        }
    }

    /// Whether nobody is left out, as far as it remembers.
    pub(crate) fn is_quiet(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn insert(key: u8) -> Change<u8, ()> {
        Change::Insert(key, Endpoint::new(()))
    }

    /// The keys inside, in order, after what passed.
    fn apply(gate: &mut Gate<u8, ()>, inside: &mut Vec<u8>, change: Change<u8, ()>) {
        let mut one = |change| match change {
            Change::Insert(key, _) if inside.contains(&key) => {}
            Change::Insert(key, _) => inside.push(key),
            Change::Remove(key) => inside.retain(|inside| *inside != key),
        };
        match gate.pass(change) {
            Passed::Through(change) => one(change),
            Passed::InExchange(key, endpoint, change) => {
                one(Change::Insert(key, endpoint));
                one(change);
            }
            Passed::Full | Passed::Nothing => {}
        }
    }

    #[test]
    fn whoever_was_left_out_takes_the_place_that_becomes_free() {
        let (mut gate, mut inside) = (Gate::new(2), Vec::new());
        for key in [1, 2, 3, 4] {
            apply(&mut gate, &mut inside, insert(key));
        }
        assert_eq!(inside, [1, 2]);
        apply(&mut gate, &mut inside, Change::Remove(3));
        apply(&mut gate, &mut inside, Change::Remove(1));
        assert_eq!(inside, [2, 4]);
        assert!(gate.is_quiet());
    }

    #[test]
    fn replacing_all_of_them_at_the_limit_leaves_the_new_ones() {
        let (mut gate, mut inside) = (Gate::new(1), Vec::new());
        apply(&mut gate, &mut inside, insert(1));
        apply(&mut gate, &mut inside, insert(2));
        apply(&mut gate, &mut inside, Change::Remove(1));
        assert_eq!(inside, [2]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut gate = Gate::new(1);
        for key in 0..10_000_u32 {
            gate.pass(Change::Insert(key, Endpoint::new(())));
        }
        assert_eq!(gate.waiting.len(), MAX_WAITING);
    }

    proptest! {
        /// The model keeps all in the order of arrival, and one that has left arrives anew.
        #[test]
        fn is_the_first_of_all_that_there_are(limit in 1..6_usize, changes: Vec<(bool, u8)>) {
            let (mut gate, mut inside) = (Gate::new(limit), Vec::new());
            let mut all: Vec<u8> = Vec::new();
            for (comes, key) in changes {
                let key = key % 12;
                if !comes {
                    all.retain(|known| *known != key);
                } else if !all.contains(&key) {
                    all.push(key);
                }
                apply(&mut gate, &mut inside, if comes { insert(key) } else { Change::Remove(key) });
                prop_assert_eq!(&inside[..], &all[..all.len().min(limit)]);
                prop_assert_eq!(gate.is_quiet(), all.len() <= limit);
            }
        }
    }
}
