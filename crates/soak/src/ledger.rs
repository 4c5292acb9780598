//! What was acknowledged, and what is there in the end.

use std::collections::{BTreeMap, BTreeSet};

/// The keys of all writes that were sent.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// Those that were answered: they must be there once.
    acknowledged: BTreeSet<String>,
    /// Those that were sent and never answered: they may be there once, or not at all.
    uncertain: BTreeSet<String>,
    /// Those that were said to be new more than once.
    twice_new: BTreeSet<String>,
    new: BTreeSet<String>,
}

/// How what was sent compares with what is there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Comparison {
    /// Of what was acknowledged.
    pub(crate) lost: Vec<String>,
    /// Of all.
    pub(crate) doubled: Vec<String>,
    /// What nobody sent.
    pub(crate) strange: Vec<String>,
}

impl Ledger {
    /// It is on its way.
    pub(crate) fn sent(&mut self, key: &str) {
        if !self.acknowledged.contains(key) {
            self.uncertain.insert(key.to_owned());
        }
    }

    /// It was answered: as new, or as what was there before.
    pub(crate) fn acknowledged(&mut self, key: &str, is_new: bool) {
        self.uncertain.remove(key);
        self.acknowledged.insert(key.to_owned());
        if is_new && !self.new.insert(key.to_owned()) {
            self.twice_new.insert(key.to_owned());
        }
    }

    /// How many were.
    pub(crate) fn len(&self) -> usize {
        self.acknowledged.len()
    }

    pub(crate) fn uncertain(&self) -> usize {
        self.uncertain.len()
    }

    pub(crate) fn twice_new(&self) -> usize {
        self.twice_new.len()
    }

    /// Holds it against what is there: each key, and how often.
    pub(crate) fn compare(&self, there: &BTreeMap<String, i64>) -> Comparison {
        let times = |key: &String| there.get(key).copied().unwrap_or(0);
        let lost = self.acknowledged.iter().filter(|key| times(key) == 0).cloned().collect();
        let doubled = there.iter().filter(|&(_, &times)| times > 1).map(|(key, _)| key.clone()).collect();
        let is_known = |key: &String| self.acknowledged.contains(key) || self.uncertain.contains(key);
        let strange = there.keys().filter(|key| !is_known(key)).cloned().collect();
        Comparison { lost, doubled, strange }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(keys: &[(&str, i64)]) -> BTreeMap<String, i64> {
        keys.iter().map(|&(key, times)| (key.to_owned(), times)).collect()
    }

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ["a", "b", "c"].into_iter().for_each(|key| ledger.sent(key));
        ledger.acknowledged("a", true);
        ledger.acknowledged("b", false);
        ledger
    }

    #[test]
    fn what_was_acknowledged_is_there_once_and_what_is_uncertain_may_be() {
        for there in [there(&[("a", 1), ("b", 1)]), there(&[("a", 1), ("b", 1), ("c", 1)])] {
            assert_eq!(ledger().compare(&there), Comparison::default());
        }
        assert_eq!((ledger().len(), ledger().uncertain()), (2, 1));
    }

    #[test]
    fn lost_doubled_and_strange_ones_are_found() {
        let found = ledger().compare(&there(&[("b", 2), ("c", 2), ("d", 1)]));
        let list = |keys: &[&str]| keys.iter().map(|&key| key.to_owned()).collect::<Vec<_>>();
        assert_eq!(found.lost, list(&["a"]));
        assert_eq!(found.doubled, list(&["b", "c"]));
        assert_eq!(found.strange, list(&["d"]));
    }

    #[test]
    fn what_is_new_twice_was_done_twice() {
        let mut ledger = ledger();
        assert_eq!(ledger.twice_new(), 0);
        ledger.acknowledged("b", true);
        assert_eq!(ledger.twice_new(), 0);
        ledger.acknowledged("b", true);
        assert_eq!(ledger.twice_new(), 1);
    }

    #[test]
    fn what_is_sent_again_after_its_answer_stays_acknowledged() {
        let mut ledger = ledger();
        ledger.sent("a");
        assert_eq!(ledger.uncertain(), 1);
    }
}
