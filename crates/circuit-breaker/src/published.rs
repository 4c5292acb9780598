//! The word that admission reads.

use std::{num::NonZeroU64, time::Duration};

/// What the published word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// Closed, and a success would change nothing.
    Quiet,
    /// Closed.
    Counting,
    /// Held closed.
    HeldClosed,
    /// Open: refuses until a time.
    Open,
    /// Half-open with every probe out: refuses until the next lease ends.
    ProbesOut,
    /// Half-open with a probe to give.
    Probing,
    /// Held open.
    HeldOpen,
}

pub(crate) const fn pack(published: Published, epoch: NonZeroU64) -> u64 {
    epoch.get() << 3 | published as u64
}

/// The bits of a state that lets every call through are the lowest: see `admit_if_closed`.
pub(crate) const fn unpack(word: u64) -> (Published, u64) {
    let published = match word & 7 {
        0 => Published::Quiet,
        1 => Published::Counting,
        2 => Published::HeldClosed,
        3 => Published::Open,
        4 => Published::ProbesOut,
        5 => Published::Probing,
        _ => Published::HeldOpen,
    };
    (published, word >> 3)
}

/// A call is refused, for so many nanoseconds yet; for ever where they are the most there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(NonZeroU64);

impl Refusal {
    pub(crate) const UNTIL_RESET: Self = Self(NonZeroU64::MAX);

    pub(crate) const fn of(nanos: u64) -> Option<Self> {
        match NonZeroU64::new(nanos) {
            Some(nanos) => Some(Self(nanos)),
            None => None,
        }
    }

    #[inline]
    pub(crate) const fn retry_after(self) -> Option<Duration> {
        if self.0.get() == u64::MAX { None } else { Some(Duration::from_nanos(self.0.get())) }
    }
}
