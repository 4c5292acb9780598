use std::sync::atomic::Ordering::Relaxed;

use crate::sync::AtomicU64;

/// Units that are at hand until a time, and until when there are no others: three words on one line of memory, one of
/// which a decision writes.
///
/// Callers only take. Adding and emptying is for one at a time: the task that speaks with the store.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Purse {
    /// The units, and when their time is up.
    units: AtomicU64,
    /// Calls of so many units and more are refused until then. Zero units: nobody is.
    shut: AtomicU64,
    /// Whoever brings what is left down to this says so. [`NEVER`]: nobody does.
    low: AtomicU64,
}

/// Of a mark that no number of units is above.
pub(crate) const NEVER: u64 = u64::MAX;

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Local {
    Admitted,
    /// And now there is little left: somebody should be told.
    AdmittedAndLow,
    /// There are none for so many nanoseconds.
    Refused(u64),
    /// It must be asked.
    Unknown,
}

impl Purse {
    /// The most units that it holds.
    pub(crate) const MOST: u32 = (1 << UNIT_BITS) - 1;

    pub(crate) fn new() -> Self {
        Self { units: AtomicU64::new(0), shut: AtomicU64::new(0), low: AtomicU64::new(NEVER) }
    }

    #[inline]
    pub(crate) fn decide(&self, units: u32, now: u64) -> Local {
        // The units carry nothing but their number: no order among words is needed.
        let mut word = self.units.load(Relaxed);
        while u64::from(units) <= word & UNITS && is_before(now, word) {
            match self.units.compare_exchange_weak(word, word - u64::from(units), Relaxed, Relaxed) {
                Ok(_) => {
                    let (before, low) = (word & UNITS, self.low.load(Relaxed));
                    let is_low = before > low && before - u64::from(units) <= low;
                    return if is_low { Local::AdmittedAndLow } else { Local::Admitted };
                }
                Err(newer) => word = newer,
            }
        }
        self.refusal(units, now).map_or(Local::Unknown, Local::Refused)
    }

    /// How long so many units are refused, where they are not at hand.
    #[inline]
    pub(crate) fn refusal(&self, units: u32, now: u64) -> Option<u64> {
        let word = self.shut.load(Relaxed);
        let least = word & UNITS;
        (least != 0 && u64::from(units) >= least && is_before(now, word)).then(|| wait(now, word))
    }

    /// Whether a call of any units is refused.
    pub(crate) fn is_shut(&self, now: u64) -> bool {
        self.left(now) == 0 && self.refusal(1, now).is_some()
    }

    /// How many there are.
    pub(crate) fn left(&self, now: u64) -> u32 {
        let word = self.units.load(Relaxed);
        if is_before(now, word) { units(word) } else { 0 }
    }

    /// How many lie here, also of those whose time is up.
    pub(crate) fn lying(&self) -> u32 {
        units(self.units.load(Relaxed))
    }

    /// Takes all out, also those whose time is up.
    pub(crate) fn empty(&self) -> u32 {
        units(self.units.swap(0, Relaxed))
    }

    /// Adds units, and sets the time of all. What lies here must not be out of its time, nor the sum be above
    /// [`MOST`](Self::MOST).
    pub(crate) fn put(&self, more: u32, until: u64) {
        let mut word = self.units.load(Relaxed);
        loop {
            let sum = (word & UNITS) + u64::from(more);
            debug_assert!(sum <= UNITS, "more units than a lease has");
            let full = stamp(until) << UNIT_BITS | sum.min(UNITS);
            match self.units.compare_exchange_weak(word, full, Relaxed, Relaxed) {
                Ok(_) => return,
                Err(newer) => word = newer,
            }
        }
    }

    /// Refuses calls of at least so many units until then, as far as they find none at hand.
    pub(crate) fn shut(&self, least: u32, until: u64) {
        let stamp = stamp(until.saturating_add((1 << TICK_BITS) - 1));
        self.shut.store(stamp << UNIT_BITS | u64::from(least.clamp(1, Self::MOST)), Relaxed);
    }

    pub(crate) fn open(&self) {
        self.shut.store(0, Relaxed);
    }

    pub(crate) fn set_low(&self, low: u64) {
        if self.low.load(Relaxed) != low {
            self.low.store(low, Relaxed);
        }
    }
}

const UNIT_BITS: u32 = 24;
const UNITS: u64 = (1 << UNIT_BITS) - 1;
/// A tick is this power of two of nanoseconds: 66 microseconds.
const TICK_BITS: u32 = 16;
/// Ticks go round; one is before another where it is less than half of the way behind it, which is 417 days.
const TICKS: u64 = (1 << (64 - UNIT_BITS)) - 1;

const fn stamp(at: u64) -> u64 {
    (at >> TICK_BITS) & TICKS
}

#[inline]
const fn is_before(now: u64, word: u64) -> bool {
    ticks_until(now, word) > 0
}

/// From now to the time of a word: ticks, in the upper bits so that the sign is where it belongs.
#[inline]
const fn ticks_until(now: u64, word: u64) -> i64 {
    ((word >> UNIT_BITS).wrapping_sub(stamp(now)) << UNIT_BITS) as i64 >> UNIT_BITS
}

/// From now to the time of a word, which is later.
const fn wait(now: u64, word: u64) -> u64 {
    ((ticks_until(now, word) as u64) << TICK_BITS) - (now & ((1 << TICK_BITS) - 1))
}

const fn units(word: u64) -> u32 {
    (word & UNITS) as u32
}

#[cfg(all(test, buttress_loom))]
mod loom_models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
