//! One limit, shared by all threads.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    Limit,
    machine::{Log, Machine, Parts, Stamps, State, Wait, Window, Word},
    sync::{AtomicU64, Mutex, lock},
};

/// A machine with its state.
#[derive(Debug)]
pub(crate) enum Meter {
    Word(Word, AtomicU64),
    Window(Shared),
    Log(Log, Mutex<Stamps>),
}

impl Meter {
    pub(crate) fn new(limit: Limit) -> Self {
        let machine = Machine::new(limit);
        match (machine, machine.idle()) {
            (Machine::Word(machine), State::Word(word)) => Self::Word(machine, AtomicU64::new(word)),
            (Machine::Window(window), State::Parts(parts)) => Self::Window(Shared::new(window, parts)),
            (Machine::Log(log), State::Stamps(stamps)) => Self::Log(log, Mutex::new(stamps)),
            _ => unreachable!("the state is of this machine"),
        }
    }

    /// Takes units, or says when they will be there. Who has waited tells since when.
    #[inline(always)]
    pub(crate) fn take(&self, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        match self {
            Self::Word(machine, word) => update(word, |word| machine.take(word, units, since, now)),
            Self::Window(shared) => shared.take(units, now),
            Self::Log(log, stamps) => log.take(&mut lock(stamps), units, now),
        }
    }

    pub(crate) fn wait(&self, units: u64, now: u64) -> u64 {
        match self {
            Self::Word(machine, word) => machine.wait(word.load(Relaxed), units, now),
            Self::Window(shared) => shared.wait(units, now),
            Self::Log(log, stamps) => log.wait(&lock(stamps), units, now),
        }
    }

    pub(crate) fn available(&self, now: u64) -> u32 {
        match self {
            Self::Word(machine, word) => machine.available(word.load(Relaxed), now),
            Self::Window(shared) => shared.look(|window, parts| window.available(parts, now)),
            Self::Log(log, stamps) => log.available(&lock(stamps), now),
        }
    }

    pub(crate) fn idle_after(&self, now: u64) -> u64 {
        match self {
            Self::Word(machine, word) => machine.idle_after(word.load(Relaxed), now),
            Self::Window(shared) => shared.look(|window, parts| window.idle_after(parts, now)),
            Self::Log(log, stamps) => log.idle_after(&lock(stamps), now),
        }
    }

    pub(crate) fn give_back(&self, units: u32, taken: u64, now: u64) {
        match self {
            Self::Word(machine, word) => {
                let _always: Result<(), ()> =
                    update(word, |word| Ok(machine.give_back(word, units, taken, now)));
            }
            Self::Window(shared) => shared.give_back(units, taken, now),
            Self::Log(log, stamps) => log.give_back(&mut lock(stamps), units, taken, now),
        }
    }
}

#[inline]
fn update<E>(word: &AtomicU64, next: impl Fn(u64) -> Result<u64, E>) -> Result<(), E> {
    let mut seen = word.load(Relaxed);
    loop {
        // The word is all there is: no other memory is ordered by it.
        match word.compare_exchange_weak(seen, next(seen)?, Relaxed, Relaxed) {
            Ok(_) => return Ok(()),
            Err(found) => seen = found,
        }
    }
}

/// A sliding window of which all threads take.
///
/// One word says what is left in which part of the period, and whoever takes only changes that. What was taken in earlier
/// parts lies behind a lock, which is taken when a new part begins, and by the first who is refused and wants to know for
/// how long: he publishes it.
#[derive(Debug)]
pub(crate) struct Shared {
    window: Window,
    /// The number of the newest part, as many bits of it as there are, above what is left.
    word: AtomicU64,
    /// Bits of what is left.
    bits: u32,
    /// Where nothing is left, nothing comes before that time, unless it is given back.
    opens: AtomicU64,
    /// With what was left when somebody last looked here; what was taken since then is the difference to the word.
    parts: Mutex<Parts>,
}

impl Shared {
    pub(crate) fn new(window: Window, parts: Parts) -> Self {
        let bits = parts.left.ilog2() + 1;
        let word = AtomicU64::new(u64::from(parts.left));
        Self { window, word, bits, opens: AtomicU64::new(0), parts: Mutex::new(parts) }
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is at most the limit's units")]
    const fn left(&self, word: u64) -> u32 {
        (word & ((1 << self.bits) - 1)) as u32
    }

    #[inline]
    pub(crate) fn take(&self, units: u32, now: u64) -> Result<(), Wait> {
        let number = self.window.number(now) << self.bits >> self.bits;
        let mut word = self.word.load(Relaxed);
        loop {
            if word >> self.bits != number || self.left(word) < units {
                return self.take_settled(units, now);
            }
            match self.word.compare_exchange_weak(word, word - u64::from(units), Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(found) => word = found,
            }
        }
    }

    /// In a new part, or where too little is left.
    #[cold]
    #[inline(never)]
    fn take_settled(&self, units: u32, now: u64) -> Result<(), Wait> {
        if units == 1
            && let Some(wait) = self.closed(now)
        {
            return Err(Some(wait));
        }
        let mut parts = lock(&self.parts);
        loop {
            let word = self.settle(&mut parts, now);
            if self.left(word) < units {
                let wait = self.window.refusal(&parts, units, now);
                if units == 1 {
                    self.opens.store(now.saturating_add(wait.unwrap_or(0)), Relaxed);
                }
                return Err(wait);
            }
            if self.word.compare_exchange(word, word - u64::from(units), Relaxed, Relaxed).is_ok() {
                return Ok(());
            }
        }
    }

    /// Writes down what was taken, and begins the part that is now. What it returns was the word then.
    fn settle(&self, parts: &mut Parts, now: u64) -> u64 {
        let mut word = self.word.load(Relaxed);
        loop {
            self.window.count(parts, self.left(word));
            let number = self.window.number(now).max(parts.newest);
            let next = number << self.bits | u64::from(self.window.left_at(parts, number));
            // Only those that hold the lock begin a part.
            match self.word.compare_exchange(word, next, Relaxed, Relaxed) {
                Ok(_) => {
                    self.window.advance(parts, number);
                    return next;
                }
                Err(found) => word = found,
            }
        }
    }

    /// How long surely nothing is left. It reads what all read, so many who are refused do not hinder each other.
    fn closed(&self, now: u64) -> Option<u64> {
        if self.left(self.word.load(Relaxed)) > 0 {
            return None;
        }
        self.opens.load(Relaxed).checked_sub(now).filter(|wait| *wait > 0)
    }

    /// Looks at what was taken until now, and begins no part: so it may be asked about times that are to come.
    fn look<R>(&self, look: impl FnOnce(Window, &Parts) -> R) -> R {
        let mut parts = lock(&self.parts);
        self.window.count(&mut parts, self.left(self.word.load(Relaxed)));
        look(self.window, &parts)
    }

    fn wait(&self, units: u64, now: u64) -> u64 {
        let closed = if units == 1 { self.closed(now) } else { None };
        closed.unwrap_or_else(|| self.look(|window, parts| window.wait(parts, units, now)))
    }

    fn give_back(&self, units: u32, taken: u64, now: u64) {
        let mut parts = lock(&self.parts);
        self.settle(&mut parts, now);
        let before = parts.left;
        self.opens.store(0, Relaxed);
        self.window.give_back(&mut parts, units, taken, now);
        // Others may have taken meanwhile: the difference to the word stays what they took.
        self.word.fetch_add(u64::from(parts.left - before), Relaxed);
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
