//! Thresholds that are tried out beside the live ones.

use std::time::Duration;

use buttress_core::{Backoff, Delays};
use tokio::time::Instant;

use crate::{
    meter::Meter,
    state::State,
    trip::{Policy, Trip},
    window::Tally,
};

/// What a breaker with other thresholds would have done with the calls that ended: the candidate of
/// [`Settings::shadow`](crate::Settings::shadow), or the breaker's own ones while it is
/// [`MetricsOnly`](State::MetricsOnly).
///
/// It sees the calls that were really made, so it knows nothing of the time in which the live breaker refused them. It
/// recovers without a ramp, and knows nothing of the time that a backend asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shadow {
    /// Its state.
    pub state: State,
    /// The calls in its window.
    pub calls: u64,
    /// How many of them failed.
    pub failed: u64,
    /// How many of them were slow.
    pub slow: u64,
    /// How often it would have opened.
    pub opened: u64,
    /// The calls that it would have refused.
    pub refused: u64,
    /// How many of those were good: refused for nothing.
    pub refused_good: u64,
}

#[derive(Debug)]
pub(crate) struct Candidate {
    meter: Meter,
    phase: Phase,
    open_for: Delays,
    opened: u64,
    refused: u64,
    refused_good: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen { succeeded: u64 },
}

impl Candidate {
    pub(crate) fn new(trip: Trip, open_for: Backoff) -> Self {
        Self {
            meter: Meter::new(Policy::Trip(trip)),
            phase: Phase::Closed,
            open_for: open_for.delays(),
            opened: 0,
            refused: 0,
            refused_good: 0,
        }
    }

    pub(crate) fn is_of(&self, trip: Trip) -> bool {
        self.meter.policy() == Policy::Trip(trip)
    }

    pub(crate) const fn policy(&self) -> Policy {
        self.meter.policy()
    }

    pub(crate) const fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// Whether each call matters by itself, and not only with many others.
    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.is_closed() && self.meter.is_quiet()
    }

    /// Takes calls that ended. `closes_after` so many good ones the circuit would have closed again.
    pub(crate) fn count(
        &mut self,
        ended: Tally,
        closes_after: u32,
        backoff: Backoff,
        now: impl Fn() -> Instant,
    ) {
        match self.phase {
            Phase::Closed => {
                self.meter.count(ended);
                if !self.meter.seen(ended).is_clean() && self.meter.is_tripped() {
                    self.open(now());
                }
            }
            Phase::Open { until } if now() < until => {
                self.refused += ended.calls;
                self.refused_good += ended.calls - ended.failed;
            }
            Phase::Open { .. } => self.probe(0, ended, closes_after, backoff, now),
            Phase::HalfOpen { succeeded } => self.probe(succeeded, ended, closes_after, backoff, now),
        }
    }

    fn probe(
        &mut self,
        succeeded: u64,
        ended: Tally,
        closes_after: u32,
        backoff: Backoff,
        now: impl Fn() -> Instant,
    ) {
        let succeeded = succeeded + ended.calls;
        let slow = ended.slow > 0 && self.meter.policy().times_calls();
        if ended.failed > 0 || slow {
            self.open(now());
        } else if succeeded >= u64::from(closes_after) {
            self.phase = Phase::Closed;
            self.open_for = backoff.delays();
            self.meter.clear();
        } else {
            self.phase = Phase::HalfOpen { succeeded };
        }
    }

    fn open(&mut self, now: Instant) {
        let length = self.open_for.next().unwrap_or(Duration::ZERO);
        self.phase = Phase::Open { until: super::breaker::later(now, length) };
        self.opened += 1;
        self.meter.clear();
    }

    pub(crate) fn report(&self) -> Shadow {
        let Tally { calls, failed, slow } = self.meter.tally();
        Shadow {
            state: match self.phase {
                Phase::Closed => State::Closed,
                Phase::Open { .. } => State::Open,
                Phase::HalfOpen { .. } => State::HalfOpen,
            },
            calls,
            failed,
            slow,
            opened: self.opened,
            refused: self.refused,
            refused_good: self.refused_good,
        }
    }
}
