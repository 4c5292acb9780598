use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::{Arc, Weak},
};

use crate::cluster::desk::{Desk, Slow};

/// When desks are to be looked at, if nobody rings before. It keeps no desk alive.
#[derive(Debug)]
pub(crate) struct Agenda {
    entries: BinaryHeap<Reverse<Entry>>,
    /// That of its worker: appointments that a desk has with an earlier one are not kept any more.
    number: u64,
}

impl Agenda {
    pub(crate) fn new(number: u64) -> Self {
        Self { entries: BinaryHeap::new(), number }
    }

    /// Has a desk looked at then, or before.
    pub(crate) fn note(&mut self, desk: &Arc<Desk>, slow: &mut Slow, at: u64) {
        if slow.look_at.is_none_or(|(number, before)| number != self.number || at < before) {
            slow.look_at = Some((self.number, at));
            self.entries.push(Reverse(Entry { at, desk: Arc::downgrade(desk) }));
        }
    }

    /// When there is something to look at.
    pub(crate) fn next(&self) -> Option<u64> {
        self.entries.peek().map(|Reverse(entry)| entry.at)
    }

    /// What is to be looked at by now.
    pub(crate) fn take_due(&mut self, now: u64) -> Vec<Arc<Desk>> {
        let mut due = Vec::new();
        while self.next().is_some_and(|at| at <= now) {
            let Some(Reverse(Entry { at, desk })) = self.entries.pop() else { break };
            // It was forgotten, or looked at before and has another appointment.
            let Some(desk) = desk.upgrade() else { continue };
            if desk.slow().look_at.take_if(|look_at| *look_at == (self.number, at)).is_some() {
                due.push(desk);
            }
        }
        due
    }
}

#[derive(Debug)]
struct Entry {
    at: u64,
    desk: Weak<Desk>,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}
