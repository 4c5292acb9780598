use std::collections::VecDeque;

use super::Wait;
use crate::Rate;

/// Remembers when each unit came, for a period.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Log {
    pub(super) period: u64,
    units: u32,
}

/// When the units came, in order: more than the limit's only where that was lowered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Stamps {
    came: VecDeque<u64>,
    /// What came until then is not known any more, for the period was another then.
    pub(super) lost: u64,
}

impl Log {
    pub(crate) const fn new(rate: Rate) -> Self {
        Self { period: rate.nanos(), units: rate.units() }
    }

    pub(super) fn forget(self, stamps: &mut Stamps, now: u64) {
        while stamps.came.front().is_some_and(|at| at.saturating_add(self.period) <= now) {
            stamps.came.pop_front();
        }
    }

    /// Those that count: how many are before them, and how many they are.
    fn counted(self, stamps: &Stamps, now: u64) -> (usize, usize) {
        let past = stamps.came.partition_point(|at| at.saturating_add(self.period) <= now);
        (past, stamps.came.len() - past)
    }

    pub(crate) fn take(self, stamps: &mut Stamps, units: u32, now: u64) -> Result<(), Wait> {
        self.forget(stamps, now);
        if units as usize <= (self.units as usize).saturating_sub(stamps.came.len()) {
            // Another thread may have read the clock a little later, and been faster.
            let at = stamps.came.back().map_or(now, |last| now.max(*last));
            stamps.came.extend(std::iter::repeat_n(at, units as usize));
            return Ok(());
        }
        Err((units <= self.units).then(|| self.wait(stamps, units.into(), now)))
    }

    /// With the log full, each unit comes a period after the one that it takes the place of.
    pub(crate) fn wait(self, stamps: &Stamps, units: u64, now: u64) -> u64 {
        let limit = u64::from(self.units);
        let (past, counted) = self.counted(stamps, now);
        let free = limit.saturating_sub(counted as u64);
        // More than the limit count where that was lowered: they leave before anybody comes.
        let over = (counted as u64).saturating_sub(limit);
        if units <= free {
            return 0;
        }
        // The last of these units takes the place of this one, counted from the oldest, free places first.
        let (rounds, place) = ((units - 1) / limit, (units - 1) % limit);
        let first = match place.checked_sub(free) {
            // Always within: the place is below the limit.
            Some(index) => {
                stamps.came[past + usize::try_from(over + index).unwrap_or(usize::MAX)] + self.period - now
            }
            None => 0,
        };
        first.saturating_add(rounds.saturating_mul(self.period))
    }

    pub(crate) fn available(self, stamps: &Stamps, now: u64) -> u32 {
        let (_, counted) = self.counted(stamps, now);
        self.units.saturating_sub(u32::try_from(counted).unwrap_or(self.units))
    }

    pub(crate) fn give_back(self, stamps: &mut Stamps, units: u32, taken: u64, now: u64) {
        self.forget(stamps, now);
        if taken > 0 && (taken.saturating_add(self.period) <= now || taken <= stamps.lost) {
            return;
        }
        let from = stamps.came.partition_point(|at| *at < taken);
        let to = stamps.came.len().min(from + units as usize);
        stamps.came.drain(from..to);
    }

    pub(crate) fn idle_after(self, stamps: &Stamps, now: u64) -> u64 {
        stamps.came.back().map_or(0, |last| last.saturating_add(self.period).saturating_sub(now))
    }
}
