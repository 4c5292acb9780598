use super::Wait;
use crate::Rate;

/// Counts in parts of the period. A unit counts until its part has left the period as a whole, so no window of a period's
/// length ever holds more than the limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(super) units: u32,
    /// A part is this power of two of nanoseconds: its number is a shift, and not a division.
    shift: u32,
    /// The parts that cover a period. The part that is now counts beside them.
    parts: u32,
}

/// What was taken, by parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The number of the newest part.
    pub(crate) newest: u64,
    /// No part before this one holds units.
    pub(super) oldest: u64,
    /// The units that may still be taken.
    pub(crate) left: u32,
    /// So many count that are more than the limit, since that was lowered: they leave before others may come.
    pub(super) over: u32,
    /// What came before that is not known any more, for the window was another then.
    pub(super) lost: u64,
    /// What was taken in each part; a part's place is its number modulo their count.
    pub(super) taken: Box<[u32]>,
}

impl Parts {
    /// So many units do not count any more.
    const fn free(&mut self, units: u32) {
        let paid = if units < self.over { units } else { self.over };
        self.over -= paid;
        self.left += units - paid;
    }
}

impl Window {
    /// At least so many parts is a period cut into, where nobody says otherwise. A unit counts for less than two parts
    /// longer than it should.
    pub(crate) const PARTS: u32 = 256;

    pub(crate) fn new(rate: Rate, parts: u32) -> Self {
        let period = rate.nanos();
        let shift = (period / u64::from(parts)).max(1).ilog2();
        let parts = period.div_ceil(1 << shift);
        Self { units: rate.units(), shift, parts: u32::try_from(parts).expect("twice the parts at most") }
    }

    pub(crate) fn idle(self) -> Parts {
        let taken = vec![0; self.parts as usize + 1].into();
        Parts { newest: 0, oldest: 0, left: self.units, over: 0, lost: 0, taken }
    }

    pub(crate) const fn shift(self) -> u32 {
        self.shift
    }

    /// That hold as many units as may be left.
    pub(crate) const fn bits(self) -> u32 {
        self.units.ilog2() + 1
    }

    #[inline]
    pub(crate) const fn number(self, at: u64) -> u64 {
        at >> self.shift
    }

    /// When that part begins.
    pub(super) const fn begin(self, number: u64) -> u64 {
        number.saturating_mul(1 << self.shift)
    }

    /// When the units of that part do not count any more.
    const fn end(self, number: u64) -> u64 {
        self.begin(number.saturating_add(self.parts as u64 + 1))
    }

    /// What will be left when the newest part is that one.
    pub(crate) fn left_at(self, parts: &Parts, number: u64) -> u32 {
        parts.left + self.leave(parts, number).saturating_sub(parts.over)
    }

    /// The units that leave when the newest part is that one.
    fn leave(self, parts: &Parts, number: u64) -> u32 {
        self.leaving(parts, number).map(|part| parts.taken[self.place(part)]).sum()
    }

    /// The parts that leave when the newest is that one, the oldest first.
    pub(super) fn leaving(self, parts: &Parts, number: u64) -> std::ops::Range<u64> {
        let length = u64::from(self.parts) + 1;
        let oldest = (parts.newest + 1).saturating_sub(length);
        oldest..(number + 1).saturating_sub(length).clamp(oldest, parts.newest + 1)
    }

    /// The parts whose units still count when the newest is that one.
    pub(super) fn counted(self, parts: &Parts, number: u64) -> std::ops::RangeInclusive<u64> {
        self.leaving(parts, number).end.max(parts.oldest)..=parts.newest
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is below the count of the parts")]
    pub(super) fn place(self, number: u64) -> usize {
        (number % (u64::from(self.parts) + 1)) as usize
    }

    /// Makes that part the newest, if it is newer.
    pub(crate) fn advance(self, parts: &mut Parts, number: u64) {
        if number <= parts.newest {
            return;
        }
        for part in self.leaving(parts, number) {
            let taken = std::mem::take(&mut parts.taken[self.place(part)]);
            parts.free(taken);
        }
        parts.newest = number;
        parts.oldest = parts.oldest.max((number + 1).saturating_sub(u64::from(self.parts) + 1));
        // Each part is passed once, so that nobody who asks has to look for the first that holds units.
        while parts.oldest < number && parts.taken[self.place(parts.oldest)] == 0 {
            parts.oldest += 1;
        }
    }

    /// Counts units in the newest part, or fewer of them.
    pub(crate) fn count(self, parts: &mut Parts, left: u32) {
        let place = self.place(parts.newest);
        parts.taken[place] = parts.taken[place].wrapping_add(parts.left.wrapping_sub(left));
        parts.left = left;
    }

    pub(crate) fn take(self, parts: &mut Parts, units: u32, now: u64) -> Result<(), Wait> {
        self.advance(parts, self.number(now));
        match parts.left.checked_sub(units) {
            Some(left) => {
                self.count(parts, left);
                Ok(())
            }
            None => Err(self.refusal(parts, units, now)),
        }
    }

    pub(crate) fn refusal(self, parts: &Parts, units: u32, now: u64) -> Wait {
        (units <= self.units).then(|| self.wait(parts, units.into(), now))
    }

    /// With the window full, each unit comes when the part leaves that holds the one which it takes the place of.
    pub(crate) fn wait(self, parts: &Parts, units: u64, now: u64) -> u64 {
        let number = self.number(now).max(parts.newest);
        let free = u64::from(self.left_at(parts, number));
        if units <= free {
            return 0;
        }
        let limit = u64::from(self.units);
        let (rounds, place) = ((units - 1) / limit, (units - 1) % limit);
        let over = u64::from(parts.over.saturating_sub(self.leave(parts, number)));
        let first =
            if place < free { number } else { self.number(self.free_at(parts, over + place - free, number)) };
        // One round later everything that was let through then has left.
        let at = self.begin(first.saturating_add(rounds.saturating_mul(u64::from(self.parts) + 1)));
        at.saturating_sub(now)
    }

    /// When the unit at that place leaves, counted from the oldest that counts while `number` is the newest part.
    fn free_at(self, parts: &Parts, place: u64, number: u64) -> u64 {
        let mut seen = 0;
        for part in self.counted(parts, number) {
            seen += u64::from(parts.taken[self.place(part)]);
            if seen > place {
                return self.end(part);
            }
        }
        self.end(parts.newest)
    }

    pub(crate) fn available(self, parts: &Parts, now: u64) -> u32 {
        self.left_at(parts, self.number(now).max(parts.newest))
    }

    pub(crate) fn give_back(self, parts: &mut Parts, mut units: u32, taken: u64, now: u64) {
        self.advance(parts, self.number(now));
        let first = self.number(taken);
        if taken > 0 && (first + u64::from(self.parts) < parts.newest || taken < parts.lost) {
            return;
        }
        for part in self.counted(parts, parts.newest).skip_while(|part| *part < first) {
            let counted = &mut parts.taken[self.place(part)];
            let back = units.min(*counted);
            *counted -= back;
            parts.free(back);
            units -= back;
        }
    }

    pub(crate) fn idle_after(self, parts: &Parts, now: u64) -> u64 {
        let number = self.number(now).max(parts.newest);
        let last = self.counted(parts, number).rev().find(|part| parts.taken[self.place(*part)] > 0);
        last.map_or(0, |part| self.end(part).saturating_sub(now))
    }
}
