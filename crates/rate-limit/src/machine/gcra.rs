use super::Wait;

/// The Generic Cell Rate Algorithm of ITU-T I.371, as virtual scheduling.
///
/// Its state is one word, the theoretical arrival time: when everything that was taken will have come back. It is at most
/// `span` ahead of now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gcra {
    /// From one unit to the next.
    pub(super) interval: u64,
    /// What the burst takes to come back.
    span: u64,
}

impl Gcra {
    pub(crate) const fn new(interval: u64, burst: u32) -> Self {
        // A limit's burst takes a year at most.
        Self { interval, span: interval * burst as u64 }
    }

    /// Its two parameters; [`of`](Self::of) makes it of them again.
    pub(crate) const fn apart(self) -> [u64; 2] {
        [self.interval, self.span]
    }

    #[inline]
    pub(crate) const fn of(interval: u64, span: u64) -> Self {
        Self { interval, span }
    }

    /// The state after. Who has waited `since` then takes what has come back meanwhile, also where the burst is too small to
    /// keep it until his timer rang.
    #[inline]
    pub(crate) fn take(self, word: u64, units: u32, since: u64, now: u64) -> Result<u64, Wait> {
        let cost = self.interval.saturating_mul(units.into());
        let next = word.max(since).saturating_add(cost);
        // Compared as a distance, which does not overflow.
        let ahead = next.saturating_sub(now);
        if ahead <= self.span {
            return Ok(next);
        }
        Err((cost <= self.span).then(|| ahead - self.span))
    }

    pub(crate) fn wait(self, word: u64, units: u64, now: u64) -> u64 {
        let ahead = word.saturating_sub(now).saturating_add(self.interval.saturating_mul(units));
        ahead.saturating_sub(self.span)
    }

    pub(crate) fn available(self, word: u64, now: u64) -> u32 {
        let units = self.span.saturating_sub(word.saturating_sub(now)) / self.interval;
        u32::try_from(units).unwrap_or(u32::MAX)
    }

    #[inline]
    pub(crate) fn give_back(self, word: u64, units: u32, taken: u64, now: u64) -> u64 {
        let cost = self.interval.saturating_mul(units.into());
        // As much as has surely not come back by itself: the burst may have been whole all the time.
        let come_back = if taken == 0 { 0 } else { now.saturating_sub(taken) };
        word.saturating_sub(cost.saturating_sub(come_back))
    }
}
