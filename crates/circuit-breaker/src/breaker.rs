//! The state machine: no I/O, no clock, no atomics.
//!
//! ```text
//!              a rate or a run of failures is reached
//!   Closed ──────────────────────────────────────────▶ Open { until }
//!      ▲                                                 │   ▲
//!      │ all permitted probes succeeded,                 │   │ a probe failed,
//!      │ or three leases without a verdict               │   │ or lost its lease
//!      │                                     the first   ▼   │
//!      └───────────────────────────────────── call ──▶ HalfOpen { probes }
//!                                              after
//!   Held { open } until reset()                until
//! ```
//!
//! Every transition begins a new epoch. A verdict carries the epoch in which its call was admitted, and one of an older
//! epoch changes nothing.

use std::{num::NonZeroU64, time::Duration};

use buttress_core::Delays;
use tokio::time::Instant;

use crate::{
    config::Settings,
    window::{Sliding, Tally, is_one_of},
};

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
}

impl State {
    /// The state as a word for logs: `closed`, `open`, `half_open`, `forced_open`, `forced_closed`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::ForcedClosed => "forced_closed",
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

/// A change of state, with the figures that caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) tally: Tally,
    pub(crate) consecutive: u64,
    pub(crate) open_for: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    phase: Phase,
    epoch: NonZeroU64,
    window: Option<Sliding>,
    consecutive: u64,
    open_for: Delays,
    /// How often it has opened.
    pub(crate) opened: u64,
    next_lease: NonZeroU64,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen(Probing),
    Held { open: bool },
}

#[derive(Debug)]
struct Probing {
    since: Instant,
    leases: Vec<Lease>,
    succeeded: u32,
}

#[derive(Debug)]
struct Lease {
    number: NonZeroU64,
    until: Instant,
}

impl Machine {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            phase: Phase::Closed,
            epoch: NonZeroU64::MIN,
            window: settings.trip.rates.map(|rates| Sliding::new(rates.window)),
            consecutive: 0,
            open_for: settings.open_for.delays(),
            opened: 0,
            next_lease: NonZeroU64::MIN,
            settings,
        }
    }

    pub(crate) const fn epoch(&self) -> NonZeroU64 {
        self.epoch
    }

    pub(crate) const fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen(_) => State::HalfOpen,
            Phase::Held { open: true } => State::ForcedOpen,
            Phase::Held { open: false } => State::ForcedClosed,
        }
    }

    /// Whether a good call would change nothing, so that it need not be told.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Closed)
            && self.consecutive == 0
            && self.window.as_ref().is_none_or(Sliding::is_full_of_successes)
    }

    /// When a call has a chance: the end of the open time, or of the next lease where every probe is out.
    pub(crate) fn refuses_until(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open { until } => Some(*until),
            Phase::HalfOpen(probing) if probing.is_full(self.settings.probes.permitted) => {
                probing.next_expiry()
            }
            _ => None,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.window.as_ref().map(Sliding::tally).unwrap_or_default()
    }

    pub(crate) const fn consecutive(&self) -> u64 {
        self.consecutive
    }

    /// Admits a call, or says until when calls are refused (`None`: until somebody resets it).
    pub(crate) fn admit(&mut self, now: Instant) -> (Result<Ticket, Option<Instant>>, Option<Transition>) {
        let mut transition = None;
        match &self.phase {
            Phase::Open { until } if now >= *until => {
                let probing = Probing { since: now, leases: Vec::new(), succeeded: 0 };
                transition = Some(self.enter(Phase::HalfOpen(probing), None));
            }
            Phase::HalfOpen(probing) if probing.next_expiry().is_some_and(|until| now >= until) => {
                transition = Some(self.open(now));
            }
            Phase::HalfOpen(probing) if now >= probing.since + 3 * self.settings.probes.lease => {
                transition = Some(self.close());
            }
            _ => {}
        }
        let epoch = self.epoch;
        let result = match &mut self.phase {
            Phase::Closed | Phase::Held { open: false } => Ok(Ticket { epoch, probe: None }),
            Phase::Held { open: true } => Err(None),
            Phase::Open { until } => Err(Some(*until)),
            Phase::HalfOpen(probing) if probing.is_full(self.settings.probes.permitted) => {
                Err(probing.next_expiry())
            }
            Phase::HalfOpen(probing) => {
                let number = self.next_lease;
                self.next_lease = number.saturating_add(1);
                probing.leases.push(Lease { number, until: now + self.settings.probes.lease });
                Ok(Ticket { epoch, probe: Some(number) })
            }
        };
        (result, transition)
    }

    /// Takes the verdict on a probe.
    pub(crate) fn judge(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) -> Option<Transition> {
        let permitted = self.settings.probes.permitted;
        let Phase::HalfOpen(probing) = &mut self.phase else { return None };
        if ticket.epoch != self.epoch {
            return None;
        }
        let lease = probing.leases.iter().position(|lease| Some(lease.number) == ticket.probe)?;
        let lease = probing.leases.swap_remove(lease);
        match verdict {
            // Nobody came by when the lease ended, or this would be of an older epoch.
            _ if now >= lease.until => Some(self.open(now)),
            Verdict::Good { slow } if !(slow && self.settings.times_calls()) => {
                probing.succeeded += 1;
                (probing.succeeded >= permitted).then(|| self.close())
            }
            Verdict::Good { .. } | Verdict::Bad { .. } => Some(self.open(now)),
            Verdict::None => None,
        }
    }

    /// Adds calls that ended in that bucket of time to a window of time. [`count`](Self::count) must follow.
    pub(crate) fn add_to_bucket(&mut self, bucket: u64, ended: Tally) {
        if !self.counts() {
            return;
        }
        if let Some(Sliding::Time(window)) = &mut self.window {
            window.add(bucket, ended);
        }
    }

    /// Takes calls that ended since the last ones, the last of them a bad one if there was any.
    pub(crate) fn count(&mut self, ended: Tally, now: impl FnOnce() -> Instant) -> Option<Transition> {
        if !self.counts() {
            return None;
        }
        if let Some(Sliding::Calls(window)) = &mut self.window {
            window.add(ended);
        }
        if ended.calls > ended.failed {
            let at_the_end = |i: &u64| is_one_of(ended.failed, *i, ended.calls);
            self.consecutive = (0..ended.calls).rev().take_while(at_the_end).count() as u64;
        } else {
            self.consecutive += ended.failed;
        }
        // Only what is bad can open it: a success never makes a rate reach its threshold.
        (!ended.is_clean() && matches!(self.phase, Phase::Closed) && self.is_tripped())
            .then(|| self.open(now()))
    }

    const fn counts(&self) -> bool {
        matches!(self.phase, Phase::Closed | Phase::Held { open: false })
    }

    fn is_tripped(&self) -> bool {
        let trip = self.settings.trip;
        if trip.consecutive.is_some_and(|n| self.consecutive >= u64::from(n)) {
            return true;
        }
        let tally = self.tally();
        trip.rates.is_some_and(|rates| {
            tally.calls >= u64::from(rates.min_calls)
                && (rates.failed.is_reached(tally.failed, tally.calls)
                    || rates.slow.is_some_and(|slow| slow.is_reached(tally.slow, tally.calls)))
        })
    }

    /// Moves the window of time on, for a reader of the figures.
    pub(crate) fn advance(&mut self, bucket: u64) {
        if let Some(Sliding::Time(window)) = &mut self.window {
            window.advance(bucket);
        }
    }

    /// Holds it open or closed until [`reset`](Self::reset).
    pub(crate) fn hold(&mut self, open: bool) -> Transition {
        self.enter(Phase::Held { open }, None)
    }

    /// Opens it for that long, whatever was counted; not while it is held.
    pub(crate) fn isolate(&mut self, length: Duration, now: Instant) -> Option<Transition> {
        let is_held = matches!(self.phase, Phase::Held { .. });
        (!is_held).then(|| self.enter(Phase::Open { until: later(now, length) }, Some(length)))
    }

    /// Closes it and forgets what was counted.
    pub(crate) fn reset(&mut self) -> Transition {
        self.close()
    }

    /// Closes it and forgets everything.
    pub(crate) fn renew(&mut self) {
        self.close();
        self.opened = 0;
    }

    fn open(&mut self, now: Instant) -> Transition {
        let length = self.open_for.next().unwrap_or(self.settings.open_for.cap());
        self.opened += 1;
        self.enter(Phase::Open { until: later(now, length) }, Some(length))
    }

    fn close(&mut self) -> Transition {
        self.open_for = self.settings.open_for.delays();
        self.enter(Phase::Closed, None)
    }

    fn enter(&mut self, phase: Phase, open_for: Option<Duration>) -> Transition {
        let (from, tally, consecutive) = (self.state(), self.tally(), self.consecutive);
        self.phase = phase;
        self.epoch = self.epoch.saturating_add(1);
        self.consecutive = 0;
        if let Some(window) = &mut self.window {
            window.clear();
        }
        Transition { from, to: self.state(), tally, consecutive, open_for }
    }
}

/// An `Instant` panics where it overflows; 30 years are long enough.
fn later(now: Instant, length: Duration) -> Instant {
    now + length.min(Duration::from_secs(30 * 365 * 86_400))
}

impl Probing {
    fn is_full(&self, permitted: u32) -> bool {
        self.leases.len() + self.succeeded as usize >= permitted as usize
    }

    fn next_expiry(&self) -> Option<Instant> {
        self.leases.iter().map(|lease| lease.until).min()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
