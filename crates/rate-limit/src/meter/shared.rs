//! A sliding window, shared by all threads.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::{
    machine::{Parts, Wait, Window},
    sync::{AtomicU64, Mutex, lock},
};

/// A sliding window of which all threads take.
///
/// One word says what is left in which part of the period, and whoever takes only changes that. What was taken in earlier
/// parts lies behind a lock, which is taken when a new part begins, and by the first who is refused and wants to know for
/// how long: he publishes it.
///
/// How the word is read can change: see [`change`](Self::change).
#[derive(Debug)]
pub(crate) struct Shared {
    /// How the word is read: see [`Cut`].
    cut: AtomicU64,
    /// The number of the newest part, as many bits of it as there are, above what is left.
    word: AtomicU64,
    /// Where nothing is left, nothing comes before that time, unless it is given back.
    opens: AtomicU64,
    /// With what was left when somebody last looked here; what was taken since then is the difference to the word.
    parts: Mutex<(Window, Parts)>,
}

/// How long a part is, as a power of two, and how many bits of the word are what is left.
#[derive(Debug, Clone, Copy)]
struct Cut(u64);

impl Cut {
    const fn new(shift: u32, bits: u32) -> Self {
        Self((shift as u64) << 8 | bits as u64)
    }

    const fn bits(self) -> u32 {
        (self.0 & 63) as u32
    }

    /// The number of the part that is then, as much of it as the word holds.
    const fn number(self, at: u64) -> u64 {
        let (shift, bits) = (self.0 >> 8 & 63, self.bits());
        at >> shift << bits >> bits
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is at most the limit's units")]
    const fn left(self, word: u64) -> u32 {
        (word & ((1 << self.bits()) - 1)) as u32
    }
}

impl Shared {
    pub(crate) fn new(window: Window, parts: Parts) -> Self {
        let cut = Cut::new(window.shift(), window.bits());
        let word = AtomicU64::new(u64::from(parts.left));
        let parts = Mutex::new((window, parts));
        Self { cut: AtomicU64::new(cut.0), word, opens: AtomicU64::new(0), parts }
    }

    #[inline(always)]
    fn cut(&self) -> Cut {
        // Who sees a new one sees that the word was closed before: see `change`.
        Cut(self.cut.load(Acquire))
    }

    #[inline]
    pub(crate) fn take(&self, units: u32, now: u64) -> Result<(), Wait> {
        let cut = self.cut();
        let number = cut.number(now);
        let mut word = self.word.load(Relaxed);
        loop {
            if word >> cut.bits() != number || cut.left(word) < units {
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
        let (window, parts) = &mut *lock(&self.parts);
        let cut = self.cut();
        loop {
            let word = self.settle(*window, parts, now);
            if cut.left(word) < units {
                let wait = window.refusal(parts, units, now);
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
    fn settle(&self, window: Window, parts: &mut Parts, now: u64) -> u64 {
        let cut = self.cut();
        let mut word = self.word.load(Relaxed);
        loop {
            window.count(parts, cut.left(word));
            let number = window.number(now).max(parts.newest);
            let next = number << cut.bits() | u64::from(window.left_at(parts, number));
            // Only those that hold the lock begin a part.
            match self.word.compare_exchange(word, next, Relaxed, Relaxed) {
                Ok(_) => {
                    window.advance(parts, number);
                    return next;
                }
                Err(found) => word = found,
            }
        }
    }

    /// How long surely nothing is left. It reads what all read, so many who are refused do not hinder each other.
    fn closed(&self, now: u64) -> Option<u64> {
        if self.cut().left(self.word.load(Relaxed)) > 0 {
            return None;
        }
        self.opens.load(Relaxed).checked_sub(now).filter(|wait| *wait > 0)
    }

    /// Looks at what was taken until now, and begins no part: so it may be asked about times that are to come.
    pub(crate) fn look<R>(&self, look: impl FnOnce(Window, &Parts) -> R) -> R {
        let (window, parts) = &mut *lock(&self.parts);
        window.count(parts, self.cut().left(self.word.load(Relaxed)));
        look(*window, parts)
    }

    pub(crate) fn wait(&self, units: u64, now: u64) -> u64 {
        let closed = if units == 1 { self.closed(now) } else { None };
        closed.unwrap_or_else(|| self.look(|window, parts| window.wait(parts, units, now)))
    }

    pub(crate) fn give_back(&self, units: u32, taken: u64, now: u64) {
        let (window, parts) = &mut *lock(&self.parts);
        self.settle(*window, parts, now);
        let before = parts.left;
        self.opens.store(0, Relaxed);
        window.give_back(parts, units, taken, now);
        // Others may have taken meanwhile: the difference to the word stays what they took.
        self.word.fetch_add(u64::from(parts.left - before), Relaxed);
    }

    /// Holds another limit from now on. What was taken goes on to count.
    ///
    /// First the word is closed: with nothing left, by whatever cut, only those take who hold the lock. Then comes the cut,
    /// then the word, so whoever reads the new cut cannot exchange a former word. Who has read a former cut can exchange the
    /// new word where it looks like one of a part that is now: that is no harm, for the bits of what is left never become
    /// fewer. What he saw is not more than there is, and he takes it from what there is.
    pub(crate) fn change(&self, to: Window, now: u64) {
        let (window, parts) = &mut *lock(&self.parts);
        let cut = self.cut();
        window.count(parts, cut.left(self.word.swap(0, Relaxed)));
        *parts = window.change(parts, to, now);
        *window = to;
        self.opens.store(0, Relaxed);
        let cut = Cut::new(to.shift(), to.bits().max(cut.bits()));
        self.cut.store(cut.0, Release);
        self.word.store(parts.newest << cut.bits() | u64::from(parts.left), Relaxed);
    }
}
