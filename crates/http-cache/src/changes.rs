use std::collections::VecDeque;

/// Which addresses were invalidated lately, and in which order, by the hashes of their keys. A response that was asked for
/// before that must not be stored.
///
/// Bounded: what was asked for before the oldest change that is remembered counts as changed.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    now: u64,
    recent: VecDeque<(u64, u64)>,
    /// All that was asked for before this counts as changed.
    floor: u64,
}

/// A point in the order of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Asked(u64);

/// How many changes are remembered.
const MOST: usize = 256;

impl Changes {
    pub(crate) const fn now(&self) -> Asked {
        Asked(self.now)
    }

    pub(crate) fn changed(&mut self, hash: u64) {
        if self.recent.len() == MOST
            && let Some((_, when)) = self.recent.pop_front()
        {
            self.floor = when;
        }
        self.now += 1;
        self.recent.push_back((hash, self.now));
    }

    pub(crate) fn all_changed(&mut self) {
        self.now += 1;
        self.floor = self.now;
        self.recent.clear();
    }

    pub(crate) fn has_changed(&self, hash: u64, since: Asked) -> bool {
        let later = self.recent.iter().rev().take_while(|(_, when)| *when > since.0);
        since.0 < self.floor || later.into_iter().any(|(other, _)| *other == hash)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_forgotten_counts_as_changed_and_the_rest_is_exact() {
        let mut changes = Changes::default();
        let first = changes.now();
        assert!(!changes.has_changed(7, first));
        changes.changed(7);
        assert!(changes.has_changed(7, first) && !changes.has_changed(8, first));
        assert!(!changes.has_changed(7, changes.now()));
        let second = changes.now();
        (0..MOST as u64).for_each(|hash| changes.changed(1_000 + hash));
        assert!(!changes.has_changed(7, second) && changes.has_changed(1_000, second));
        changes.changed(0);
        assert!(changes.has_changed(9, first));
        changes.all_changed();
        assert!(changes.has_changed(9, second) && !changes.has_changed(9, changes.now()));
    }

    proptest! {
        #[test]
        fn a_change_is_never_missed(script in prop::collection::vec((0_u64..4, 0..300_usize), 1..60)) {
            let mut changes = Changes::default();
            let mut asked = Vec::new();
            for (step, (hash, others)) in script.iter().enumerate() {
                asked.push((changes.now(), step));
                (0..*others).for_each(|other| changes.changed(100 + other as u64));
                changes.changed(*hash);
                for (since, from) in &asked {
                    for hash in 0..4 {
                        let truly = script[*from..=step].iter().any(|(changed, _)| *changed == hash);
                        let between: usize = script[*from..=step].iter().map(|(_, others)| others + 1).sum();
                        let told = changes.has_changed(hash, *since);
                        prop_assert!(told || !truly);
                        prop_assert!(!told || truly || between > MOST);
                    }
                }
            }
        }
    }
}
