//! Other limits of the same algorithm, while the past goes on to count.

use super::{Fixed, Gcra, Log, Parts, Stamps, Window, Word};

impl Word {
    /// Whether a word says the same under the other one.
    pub(crate) const fn reads_like(self, to: Self) -> bool {
        match (self, to) {
            (Self::Gcra(from), Self::Gcra(to)) => from.interval == to.interval,
            (Self::Fixed(from), Self::Fixed(to)) => from.period == to.period,
            _ => false,
        }
    }

    /// What the word is under the other one.
    pub(crate) fn change(self, word: u64, to: Self, now: u64) -> u64 {
        match (self, to) {
            (Self::Gcra(from), Self::Gcra(to)) => from.change(word, to, now),
            (Self::Fixed(from), Self::Fixed(to)) => from.change(word, to, now),
            _ => unreachable!("the algorithm stays"),
        }
    }
}

impl Gcra {
    /// As many units have to come back as before, each in the time that it takes now.
    fn change(self, word: u64, to: Self, now: u64) -> u64 {
        if self.interval == to.interval {
            return word;
        }
        let ahead = u128::from(word.saturating_sub(now)) * u128::from(to.interval);
        let ahead = ahead.div_ceil(u128::from(self.interval));
        now.saturating_add(u64::try_from(ahead).unwrap_or(u64::MAX))
    }
}

impl Fixed {
    /// What was taken in the window that is now counts in that which is now by the other period.
    fn change(self, word: u64, to: Self, now: u64) -> u64 {
        if self.period == to.period {
            return word;
        }
        let (_, taken, _) = self.current(word, now);
        super::fixed::pack(to.number(now), taken)
    }
}

impl Log {
    /// The log has all that it needs, which is when each unit came; but what it has forgotten.
    pub(crate) fn change(self, stamps: &mut Stamps, now: u64) {
        self.forget(stamps, now);
        stamps.lost = stamps.lost.max(now.saturating_sub(self.period));
    }
}

impl Window {
    /// The parts by the other window. Each unit counts as if it had come at the end of its part: never shorter than it
    /// should. What has left by the former period is not known any more.
    pub(crate) fn change(self, parts: &Parts, to: Self, now: u64) -> Parts {
        let mut changed = to.idle();
        // No part ends later than now, so that none is before the clock; but that of a clock which was.
        let came = |part: u64| (self.begin(part + 1) - 1).min(now.max(self.begin(part)));
        changed.newest = to.number(came(parts.newest).max(now));
        let counted = to.counted(&changed, changed.newest);
        let mut used = 0;
        for part in self.counted(parts, parts.newest) {
            let number = to.number(came(part));
            if counted.contains(&number) {
                let taken = parts.taken[self.place(part)];
                changed.taken[to.place(number)] += taken;
                used += taken;
            }
        }
        changed.oldest = *counted.start();
        changed.lost = parts.lost.max(self.begin(self.leaving(parts, parts.newest).end));
        (changed.left, changed.over) = (to.units.saturating_sub(used), used.saturating_sub(to.units));
        changed
    }
}
