//! A limit whose past is one word, shared by all threads.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::{
    machine::{Fixed, Gcra, Wait, Word},
    sync::{AtomicU64, Mutex, lock},
};

/// While the word is this, the limit changes: nobody takes. No limit reaches it.
const CLOSED: u64 = u64::MAX;

/// One word, and the two by which it is read.
///
/// Who takes reads the word, then the parameters, then exchanges the word: so the parameters were those of that word, since
/// a change that makes another word of it first closes it, and last sets one that differs. Only who stood still between the
/// two for the whole change, and finds the same nanosecond in it again, counts his call as before the change.
#[derive(Debug)]
pub(crate) struct Cell {
    is_gcra: bool,
    first: AtomicU64,
    second: AtomicU64,
    word: AtomicU64,
    /// When the word was made another last. What was taken before may have come back in ways that it does not tell.
    changing: Mutex<u64>,
}

impl Cell {
    pub(crate) fn new(machine: Word) -> Self {
        let (is_gcra, [first, second]) = apart(machine);
        Self {
            is_gcra,
            first: AtomicU64::new(first),
            second: AtomicU64::new(second),
            word: AtomicU64::new(Word::IDLE),
            changing: Mutex::new(0),
        }
    }

    #[inline(always)]
    fn machine(&self) -> Word {
        // What is read of a change that goes on is seen after the word was closed: then the exchange fails.
        let (first, second) = (self.first.load(Acquire), self.second.load(Acquire));
        if self.is_gcra { Word::Gcra(Gcra::of(first, second)) } else { Word::Fixed(Fixed::of(first, second)) }
    }

    #[inline(always)]
    pub(crate) fn take(&self, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        let mut word = self.word.load(Acquire);
        loop {
            if word == CLOSED {
                word = self.opened();
            }
            match self.machine().take(word, units, since, now) {
                Ok(next) => match self.word.compare_exchange_weak(word, next, Relaxed, Acquire) {
                    Ok(_) => return Ok(()),
                    Err(found) => word = found,
                },
                Err(wait) => {
                    // The parameters may have been half of one limit and half of another.
                    let found = self.word.load(Acquire);
                    if found == word {
                        return Err(wait);
                    }
                    word = found;
                }
            }
        }
    }

    /// The word after the change that goes on.
    #[cold]
    #[inline(never)]
    fn opened(&self) -> u64 {
        let _changed = lock(&self.changing);
        self.word.load(Acquire)
    }

    /// Looks at the word by the parameters that are its own.
    pub(crate) fn look<R>(&self, look: impl Fn(Word, u64) -> R) -> R {
        let mut word = self.word.load(Acquire);
        loop {
            if word == CLOSED {
                word = self.opened();
            }
            let seen = look(self.machine(), word);
            let now = self.word.load(Acquire);
            if now == word {
                return seen;
            }
            word = now;
        }
    }

    pub(crate) fn give_back(&self, units: u32, taken: u64, now: u64) {
        let changed = lock(&self.changing);
        if taken > 0 && taken < *changed {
            return;
        }
        let machine = self.machine();
        let mut word = self.word.load(Relaxed);
        while let Err(found) = self.word.compare_exchange_weak(
            word,
            machine.give_back(word, units, taken, now),
            Relaxed,
            Relaxed,
        ) {
            word = found;
        }
    }

    /// Holds the other limit from now on. What was taken goes on to count.
    pub(crate) fn change(&self, to: Word, now: u64) {
        let mut changed = lock(&self.changing);
        let from = self.machine();
        let (_, [first, second]) = apart(to);
        if from.reads_like(to) {
            // Whoever takes meanwhile takes by one or the other, and his units count the same.
            self.first.store(first, Release);
            self.second.store(second, Release);
            return;
        }
        *changed = now.max(*changed);
        let word = self.word.swap(CLOSED, Acquire);
        self.first.store(first, Release);
        self.second.store(second, Release);
        // What would take longer than that never comes back, and must not look closed.
        let next = from.change(word, to, now).min(CLOSED - 2);
        // For who still has the former one at hand.
        self.word.store(if next == word { next + 1 } else { next }, Release);
    }
}

fn apart(machine: Word) -> (bool, [u64; 2]) {
    match machine {
        Word::Gcra(gcra) => (true, gcra.apart()),
        Word::Fixed(fixed) => (false, fixed.apart()),
    }
}
