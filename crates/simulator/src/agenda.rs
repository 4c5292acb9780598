use std::collections::BTreeMap;

use crate::nanos::Nanos;

/// What will happen, in order of time; at one instant in the order in which it was put down.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    entries: BTreeMap<Key, Action>,
    next_number: u64,
}

/// Names an entry, to cancel it: what is cancelled is gone, so the agenda is never longer than what is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    at: Nanos,
    number: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// The next call of an open population.
    Arrive {
        population: usize,
    },
    /// A caller of a closed population has thought.
    CallAgain {
        population: usize,
    },
    LosePatience {
        slot: usize,
    },
    TryAgain {
        slot: usize,
    },
    Serve {
        backend: usize,
        job: usize,
    },
    RefuseAll {
        backend: usize,
    },
    Sample,
}

impl Agenda {
    pub(crate) fn push(&mut self, at: Nanos, action: Action) -> Key {
        let key = Key { at, number: self.next_number };
        self.next_number += 1;
        self.entries.insert(key, action);
        key
    }

    pub(crate) fn cancel(&mut self, key: Key) {
        self.entries.remove(&key);
    }

    pub(crate) fn next(&self) -> Option<Nanos> {
        self.entries.first_key_value().map(|(key, _)| key.at)
    }

    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<Action> {
        let entry = self.entries.first_entry()?;
        (entry.key().at <= now).then(|| entry.remove())
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_entries_in_order_and_never_early() {
        let mut agenda = Agenda::default();
        for (at, slot) in [(5, 0), (3, 1), (5, 2), (4, 3)] {
            agenda.push(at, Action::TryAgain { slot });
        }
        let cancelled = agenda.push(4, Action::Sample);
        agenda.cancel(cancelled);
        assert_eq!(agenda.next(), Some(3));
        assert_eq!(agenda.pop_due(2), None);
        let slots: Vec<_> = std::iter::from_fn(|| agenda.pop_due(5)).collect();
        assert_eq!(slots, [1, 3, 0, 2].map(|slot| Action::TryAgain { slot }));
        assert_eq!(agenda.len(), 0);
    }
}
