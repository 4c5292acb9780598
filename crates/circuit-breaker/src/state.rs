//! The words of the machine: what it is asked, and what it answers.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

use crate::window::Tally;

/// The state of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls go through and are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// A few calls go through to find out whether the backend is back.
    HalfOpen,
    /// Calls are refused until [`reset`](crate::Breaker::reset).
    ForcedOpen,
    /// Calls go through and are counted, and nothing opens the breaker until [`reset`](crate::Breaker::reset).
    ForcedClosed,
    /// As `ForcedClosed`, and what the breaker would have done is counted.
    MetricsOnly,
    /// The probes have succeeded: a growing share of the calls goes through (see [`Ramp`](crate::Ramp)).
    Recovering,
    /// A share of the calls is refused, as many as the backend does not accept (see [`Throttle`](crate::Throttle)).
    Throttling,
}

impl State {
    /// The state as a word for logs: `closed`, `open`, `half_open`, ...
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
            Self::MetricsOnly => "metrics_only",
            Self::Recovering => "recovering",
            Self::Throttling => "throttling",
        }
    }
}

/// The admission of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// From 1 on.
    pub(crate) epoch: NonZeroU64,
    /// The number of its lease, for a probe.
    pub(crate) probe: Option<NonZeroU64>,
}

/// What became of a call, as far as the breaker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good {
        slow: bool,
    },
    Bad {
        slow: bool,
    },
    /// It tells nothing: the slot is given back.
    None,
}

impl Verdict {
    /// The call as it is counted, if it is.
    pub(crate) fn tally(self) -> Option<Tally> {
        let one = |failed: bool, slow: bool| Tally { calls: 1, failed: failed.into(), slow: slow.into() };
        match self {
            Self::Good { slow } => Some(one(false, slow)),
            Self::Bad { slow } => Some(one(true, slow)),
            Self::None => None,
        }
    }
}

/// A change of state, with the figures that caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// Its number, from 1 on.
    pub number: u64,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The calls in the window before; 0 where there is no window.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them were slow; counted only with a slow rate.
    pub slow: u64,
    /// The failures since the last success before.
    pub consecutive_failures: u64,
    /// How long it will be open, where it opened for a time.
    pub open_for: Option<Duration>,
}

/// Transitions, in their order. Hardly ever is there any, and no list of none allocates.
pub(crate) type Changes = Vec<Transition>;

/// How a breaker is held until it is reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    Open,
    Closed,
    MetricsOnly,
}

/// What part of the calls is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Growing { since: Instant, length: Duration, from: u32 },
    Share(u32),
}
