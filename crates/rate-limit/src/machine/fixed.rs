use super::Wait;
use crate::Rate;

/// Counts from one edge to the next, a period apart.
///
/// Its state is one word: the window's number, of which 32 bits are kept, and the units that were taken in it. An idle
/// state that is found again after exactly 2^32 periods counts for one more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fixed {
    pub(super) period: u64,
    units: u32,
}

pub(super) const fn pack(window: u32, taken: u32) -> u64 {
    (window as u64) << 32 | taken as u64
}

#[expect(clippy::cast_possible_truncation, reason = "the word is two halves")]
const fn unpack(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

impl Fixed {
    pub(crate) const fn new(rate: Rate) -> Self {
        Self { period: rate.nanos(), units: rate.units() }
    }

    /// Its two parameters; [`of`](Self::of) makes it of them again.
    pub(crate) const fn apart(self) -> [u64; 2] {
        [self.period, self.units as u64]
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "they were of 32 bits")]
    pub(crate) const fn of(period: u64, units: u64) -> Self {
        Self { period, units: units as u32 }
    }

    #[expect(clippy::cast_possible_truncation, reason = "32 bits of it are kept")]
    pub(super) const fn number(self, at: u64) -> u32 {
        (at / self.period) as u32
    }

    /// The window that is now, how much was taken in it, and how long until it ends.
    pub(super) fn current(self, word: u64, now: u64) -> (u32, u32, u64) {
        let (window, taken) = unpack(word);
        let number = self.number(now);
        let left = self.period - now % self.period;
        // Another thread may have read the clock a little later, and been faster.
        match window.wrapping_sub(number) {
            0 => (number, taken, left),
            1 => (window, taken, left + self.period),
            _ => (number, 0, left),
        }
    }

    pub(crate) fn take(self, word: u64, units: u32, now: u64) -> Result<u64, Wait> {
        let (window, taken, left) = self.current(word, now);
        match taken.checked_add(units) {
            Some(sum) if sum <= self.units => Ok(pack(window, sum)),
            _ => Err((units <= self.units).then_some(left)),
        }
    }

    pub(crate) fn wait(self, word: u64, units: u64, now: u64) -> u64 {
        let (_, taken, left) = self.current(word, now);
        // More than the limit may have been taken before that was lowered: with the window, all of it ends.
        let sum = u64::from(taken.min(self.units)).saturating_add(units);
        match sum.div_ceil(self.units.into()) {
            0 | 1 => 0,
            windows => left.saturating_add((windows - 2).saturating_mul(self.period)),
        }
    }

    pub(crate) fn available(self, word: u64, now: u64) -> u32 {
        self.units.saturating_sub(self.current(word, now).1)
    }

    pub(crate) fn give_back(self, word: u64, units: u32, taken: u64) -> u64 {
        let (window, sum) = unpack(word);
        // Units of a window that has ended do not count any more.
        if self.number(taken) == window || taken == 0 {
            pack(window, sum.saturating_sub(units))
        } else {
            word
        }
    }

    pub(crate) fn idle_after(self, word: u64, now: u64) -> u64 {
        let (_, taken, left) = self.current(word, now);
        if taken == 0 { 0 } else { left }
    }
}
