//! The word that admission reads.

use std::{num::NonZeroU64, time::Duration};

use crate::state::State;

/// What the published word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    /// Closed, and a success would change nothing.
    Quiet,
    /// Closed.
    Counting,
    /// Held closed.
    HeldClosed,
    /// Held closed, and tried out.
    MetricsOnly,
    /// Admits a share that grows.
    Recovering,
    /// Admits a share.
    Throttling,
    /// Open: refuses until a time.
    Open,
    /// Half-open with every probe out: refuses until the next lease ends.
    ProbesOut,
    /// Half-open with a probe to give.
    Probing,
    /// Held open.
    HeldOpen,
}

impl Published {
    pub(crate) const fn state(self) -> State {
        match self {
            Self::Quiet | Self::Counting => State::Closed,
            Self::HeldClosed => State::ForcedClosed,
            Self::MetricsOnly => State::MetricsOnly,
            Self::Recovering => State::Recovering,
            Self::Throttling => State::Throttling,
            Self::Open => State::Open,
            Self::ProbesOut | Self::Probing => State::HalfOpen,
            Self::HeldOpen => State::ForcedOpen,
        }
    }
}

const BITS: u32 = 4;

pub(crate) const fn pack(published: Published, epoch: NonZeroU64) -> u64 {
    epoch.get() << BITS | published as u64
}

pub(crate) const fn epoch_of(word: u64) -> u64 {
    word >> BITS
}

/// Whether the word lets every call through: their codes are the lowest.
pub(crate) const fn admits_all(word: u64) -> bool {
    word & ((1 << BITS) - 1) <= Published::MetricsOnly as u64
}

pub(crate) const fn unpack(word: u64) -> Published {
    match word & ((1 << BITS) - 1) {
        0 => Published::Quiet,
        1 => Published::Counting,
        2 => Published::HeldClosed,
        3 => Published::MetricsOnly,
        4 => Published::Recovering,
        5 => Published::Throttling,
        6 => Published::Open,
        7 => Published::ProbesOut,
        8 => Published::Probing,
        _ => Published::HeldOpen,
    }
}

/// A call is refused, for so many nanoseconds yet; for ever where they are the most there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal(NonZeroU64);

impl Refusal {
    pub(crate) const UNTIL_RESET: Self = Self(NonZeroU64::MAX);
    /// Half-open, the leases say how long its probes may take, not how long they will; and where a part of the calls is
    /// admitted, the next may be one of them.
    pub(crate) const SOON: Self = Self(NonZeroU64::new(1_000_000_000).expect("a second is not zero"));

    pub(crate) const fn nanos(self) -> u64 {
        self.0.get()
    }

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
