use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    Table,
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Which state of its tables an answer belongs to. It is part of the key.
///
/// So a write makes nothing untrue that is kept: it makes another key of the same query. Whoever asks after the write neither
/// finds what was loaded before it, nor waits for a load that began before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    /// The last change of any of the tables.
    epoch: u64,
    /// Where changes may go by unnoticed, the second in which it is asked for. Else 0.
    second: u64,
}

/// How tables changed, as far as it is known here. Pure: it is told the time.
///
/// Bounded: of too many tables all are forgotten, which counts as a change of all.
#[derive(Debug)]
pub(crate) struct Versions {
    begin: Instant,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    /// The last change of tables that are not known.
    floor: u64,
    /// Until when tables that are not known may still change.
    floor_doubt: Option<Instant>,
    tables: HashMap<Table, Known>,
    /// Whose changes a listener tells.
    listened: HashSet<Table>,
    /// The listener that speaks; those before it do not count any more.
    listener: u64,
    /// It is not connected.
    deaf: bool,
}

#[derive(Debug, Default)]
struct Known {
    epoch: u64,
    /// Until when a write whose end is not known may still come to its commit.
    doubt: Option<Instant>,
}

/// The most changed tables that are remembered.
const MOST: usize = 4_096;
/// For how long an answer is kept while changes may go by unnoticed.
const SLOT: Duration = Duration::from_secs(1);

impl Versions {
    pub(crate) fn new(now: Instant) -> Self {
        Self { begin: now, state: RwLock::default() }
    }

    /// The version of what is asked of these tables now.
    pub(crate) fn of(&self, tables: &[Table], now: impl FnOnce() -> Instant) -> Version {
        let state = self.read();
        let mut epoch = state.floor;
        let mut doubt = state.floor_doubt;
        let mut deaf = false;
        for table in tables {
            if let Some(known) = state.tables.get(table) {
                epoch = epoch.max(known.epoch);
                doubt = doubt.max(known.doubt);
            }
            deaf |= state.deaf && state.listened.contains(table);
        }
        if !deaf && doubt.is_none() {
            return Version { epoch, second: 0 };
        }
        let now = now();
        let unsure = deaf || doubt.is_some_and(|until| now < until);
        let slots = now.saturating_duration_since(self.begin).as_nanos() / SLOT.as_nanos();
        // Within u64 for as long as a process lives.
        let second = if unsure { 1 + u64::try_from(slots).unwrap_or(u64::MAX - 1) } else { 0 };
        Version { epoch, second }
    }

    /// They changed.
    pub(crate) fn changed(&self, tables: &[Table]) {
        self.write().change(tables, None);
    }

    /// They changed, or may change until then.
    pub(crate) fn in_doubt(&self, tables: &[Table], until: Instant) {
        self.write().change(tables, Some(until));
    }

    /// Everything changed.
    pub(crate) fn all_changed(&self) {
        self.write().forget_all();
    }

    /// A new listener is connected, which tells changes of these tables and of those before. Returns its number; another's
    /// does not count any more.
    pub(crate) fn hear(&self, tables: &[Table]) -> u64 {
        let mut state = self.write();
        state.listened.extend(tables.iter().cloned());
        state.listener += 1;
        state.hear();
        state.listener
    }

    /// The listener of this number is connected again. Says whether it still counts.
    pub(crate) fn hear_again(&self, listener: u64) -> bool {
        let mut state = self.write();
        let counts = state.listener == listener;
        if counts {
            state.hear();
        }
        counts
    }

    /// The listener of this number is not connected any more.
    pub(crate) fn fall_deaf(&self, listener: u64) {
        let mut state = self.write();
        state.deaf |= state.listener == listener;
    }

    /// Somebody says that a table changed. Says whether there is one of this name.
    pub(crate) fn told(&self, name: &str) -> bool {
        let state = self.read();
        let meant: Vec<Table> = state.listened.iter().filter(|table| table.is(name)).cloned().collect();
        drop(state);
        if !meant.is_empty() {
            self.changed(&meant);
        }
        !meant.is_empty()
    }

    /// How often something changed, or counted as changed.
    pub(crate) fn changes(&self) -> u64 {
        self.read().epoch
    }

    pub(crate) fn listened(&self) -> Vec<Table> {
        self.read().listened.iter().cloned().collect()
    }

    pub(crate) fn is_heard(&self) -> bool {
        let state = self.read();
        state.listener > 0 && !state.deaf
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What was not heard until now will never be told.
    fn hear(&mut self) {
        let listened: Vec<Table> = self.listened.iter().cloned().collect();
        self.change(&listened, None);
        self.deaf = false;
    }

    fn change(&mut self, tables: &[Table], doubt: Option<Instant>) {
        self.epoch += 1;
        for table in tables {
            if self.tables.len() >= MOST && !self.tables.contains_key(table) {
                self.forget_all();
            }
            let epoch = self.epoch;
            let known = match self.tables.get_mut(table) {
                Some(known) => known,
                None => self.tables.entry(table.clone()).or_default(),
            };
            known.epoch = epoch;
            known.doubt = known.doubt.max(doubt);
        }
    }

    fn forget_all(&mut self) {
        self.epoch += 1;
        self.floor = self.epoch;
        let doubt = self.tables.drain().filter_map(|(_, known)| known.doubt).max();
        self.floor_doubt = self.floor_doubt.max(doubt);
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(test)]
mod tests;
