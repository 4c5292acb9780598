//! The algorithms, as pure machines: time comes in, decisions come out.

mod change;
mod fixed;
mod gcra;
mod log;
mod window;
mod word;

pub(crate) use self::{
    fixed::Fixed,
    gcra::Gcra,
    log::{Log, Stamps},
    window::{Parts, Window},
    word::Word,
};

use crate::{Algorithm, Limit};

/// One limit's algorithm. All times are nanoseconds of one clock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Machine {
    Word(Word),
    Window(Window),
    Log(Log),
}

/// What a [`Machine`] knows of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum State {
    Word(u64),
    Parts(Parts),
    Stamps(Stamps),
}

/// A refusal: how long until the units are there, or `None` where they never can be.
pub(crate) type Wait = Option<u64>;

impl Machine {
    pub(crate) fn new(limit: Limit) -> Self {
        Self::cut(limit, Window::PARTS)
    }

    /// The period of a sliding window is cut into at least so many parts.
    pub(crate) fn cut(limit: Limit, parts: u32) -> Self {
        let rate = limit.rate();
        match limit.algorithm() {
            Algorithm::Gcra { burst } => Self::Word(Word::Gcra(Gcra::new(limit.interval(), burst))),
            Algorithm::FixedWindow => Self::Word(Word::Fixed(Fixed::new(rate))),
            Algorithm::SlidingWindow => Self::Window(Window::new(rate, parts)),
            Algorithm::SlidingLog => Self::Log(Log::new(rate)),
        }
    }

    /// The state of one whose past does not matter.
    pub(crate) fn idle(&self) -> State {
        match self {
            Self::Word(_) => State::Word(Word::IDLE),
            Self::Window(window) => State::Parts(window.idle()),
            Self::Log(_) => State::Stamps(Stamps::default()),
        }
    }

    /// Takes units, or says when they will be there.
    #[cfg(any(test, feature = "cluster"))]
    pub(crate) fn take(&self, state: &mut State, units: u32, now: u64) -> Result<(), Wait> {
        self.take_late(state, units, now, now)
    }

    /// The same for one who has waited since then, and is late only because his timer was.
    pub(crate) fn take_late(&self, state: &mut State, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        match (self, state) {
            (Self::Word(machine), State::Word(word)) => {
                machine.take(*word, units, since, now).map(|next| *word = next)
            }
            (Self::Window(window), State::Parts(parts)) => window.take(parts, units, now),
            (Self::Log(log), State::Stamps(stamps)) => log.take(stamps, units, now),
            _ => unreachable!("the state is of this machine"),
        }
    }

    /// How long until so many units have been let through one after the other, each as early as it can be: zero where they
    /// are there. They may be more than can be taken at once.
    pub(crate) fn wait(&self, state: &State, units: u64, now: u64) -> u64 {
        match (self, state) {
            (Self::Word(machine), State::Word(word)) => machine.wait(*word, units, now),
            (Self::Window(window), State::Parts(parts)) => window.wait(parts, units, now),
            (Self::Log(log), State::Stamps(stamps)) => log.wait(stamps, units, now),
            _ => unreachable!("the state is of this machine"),
        }
    }

    /// The units that are there.
    pub(crate) fn available(&self, state: &State, now: u64) -> u32 {
        match (self, state) {
            (Self::Word(machine), State::Word(word)) => machine.available(*word, now),
            (Self::Window(window), State::Parts(parts)) => window.available(parts, now),
            (Self::Log(log), State::Stamps(stamps)) => log.available(stamps, now),
            _ => unreachable!("the state is of this machine"),
        }
    }

    /// Makes units free that were taken at that time, or at zero where nobody knows when: then they are the oldest. Those
    /// that have come back by themselves are not given a second time; GCRA, which remembers least, takes for granted what
    /// may have come back since.
    pub(crate) fn give_back(&self, state: &mut State, units: u32, taken: u64, now: u64) {
        match (self, state) {
            (Self::Word(machine), State::Word(word)) => *word = machine.give_back(*word, units, taken, now),
            (Self::Window(window), State::Parts(parts)) => window.give_back(parts, units, taken, now),
            (Self::Log(log), State::Stamps(stamps)) => log.give_back(stamps, units, taken, now),
            _ => unreachable!("the state is of this machine"),
        }
    }

    /// How long until the past does not matter any more; zero where it does not.
    pub(crate) fn idle_after(&self, state: &State, now: u64) -> u64 {
        match (self, state) {
            (Self::Word(machine), State::Word(word)) => machine.idle_after(*word, now),
            (Self::Window(window), State::Parts(parts)) => window.idle_after(parts, now),
            (Self::Log(log), State::Stamps(stamps)) => log.idle_after(stamps, now),
            _ => unreachable!("the state is of this machine"),
        }
    }
}

#[cfg(test)]
mod tests;
