//! One limit, shared by all threads.

use crate::{
    Limit,
    machine::{Log, Machine, Stamps, State, Wait},
    sync::{Mutex, lock},
};

mod cell;
mod shared;

use self::{cell::Cell, shared::Shared};

/// A machine with its state.
#[derive(Debug)]
pub(crate) enum Meter {
    Word(Cell),
    Window(Shared),
    Log(Mutex<(Log, Stamps)>),
}

impl Meter {
    pub(crate) fn new(limit: Limit) -> Self {
        let machine = Machine::new(limit);
        match (machine, machine.idle()) {
            (Machine::Word(machine), State::Word(_)) => Self::Word(Cell::new(machine)),
            (Machine::Window(window), State::Parts(parts)) => Self::Window(Shared::new(window, parts)),
            (Machine::Log(log), State::Stamps(stamps)) => Self::Log(Mutex::new((log, stamps))),
            _ => unreachable!("the state is of this machine"),
        }
    }

    /// Takes units, or says when they will be there. Who has waited tells since when.
    #[inline(always)]
    pub(crate) fn take(&self, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        match self {
            Self::Word(cell) => cell.take(units, since, now),
            Self::Window(shared) => shared.take(units, now),
            Self::Log(log) => take_of_log(log, units, now),
        }
    }

    pub(crate) fn wait(&self, units: u64, now: u64) -> u64 {
        match self {
            Self::Word(cell) => cell.look(|machine, word| machine.wait(word, units, now)),
            Self::Window(shared) => shared.wait(units, now),
            Self::Log(log) => look(log, |log, stamps| log.wait(stamps, units, now)),
        }
    }

    pub(crate) fn available(&self, now: u64) -> u32 {
        match self {
            Self::Word(cell) => cell.look(|machine, word| machine.available(word, now)),
            Self::Window(shared) => shared.look(|window, parts| window.available(parts, now)),
            Self::Log(log) => look(log, |log, stamps| log.available(stamps, now)),
        }
    }

    pub(crate) fn idle_after(&self, now: u64) -> u64 {
        match self {
            Self::Word(cell) => cell.look(|machine, word| machine.idle_after(word, now)),
            Self::Window(shared) => shared.look(|window, parts| window.idle_after(parts, now)),
            Self::Log(log) => look(log, |log, stamps| log.idle_after(stamps, now)),
        }
    }

    pub(crate) fn give_back(&self, units: u32, taken: u64, now: u64) {
        match self {
            Self::Word(cell) => cell.give_back(units, taken, now),
            Self::Window(shared) => shared.give_back(units, taken, now),
            Self::Log(log) => {
                let (log, stamps) = &mut *lock(log);
                log.give_back(stamps, units, taken, now);
            }
        }
    }

    /// Holds another limit of the same algorithm from now on. What was taken goes on to count.
    pub(crate) fn change(&self, limit: Limit, now: u64) {
        match (self, Machine::new(limit)) {
            (Self::Word(cell), Machine::Word(to)) => cell.change(to, now),
            (Self::Window(shared), Machine::Window(to)) => shared.change(to, now),
            (Self::Log(log), Machine::Log(to)) => {
                let (log, stamps) = &mut *lock(log);
                log.change(stamps, now);
                *log = to;
            }
            _ => unreachable!("the algorithm stays"),
        }
    }
}

#[inline]
fn take_of_log(log: &Mutex<(Log, Stamps)>, units: u32, now: u64) -> Result<(), Wait> {
    let (log, stamps) = &mut *lock(log);
    log.take(stamps, units, now)
}

fn look<R>(log: &Mutex<(Log, Stamps)>, look: impl FnOnce(Log, &Stamps) -> R) -> R {
    let (log, stamps) = &*lock(log);
    look(*log, stamps)
}

#[cfg(all(test, not(buttress_loom)))]
mod change_tests;
#[cfg(all(test, buttress_loom))]
mod loom_models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
