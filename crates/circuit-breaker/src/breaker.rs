//! The state machine: no I/O, no clock, no atomics.
//!
//! ```text
//!              a rate or a run of failures is reached
//!   Closed ──────────────────────────────────────────▶ Open { until }
//!      ▲                                                 │   ▲   ▲
//!      │ the ramp ends            the first call after   │   │   │ a rate or a run of failures
//!      │                                        until    ▼   │   │ is reached again
//!      │                              HalfOpen { probes } ───┘   │
//!      │                                 │   a probe failed,     │
//!      │   enough probes succeeded, or   │   or lost its lease   │
//!      │   the longest time has passed   ▼                       │
//!      └──────────────────────── Recovering { ramp } ────────────┘
//!
//!   Closed ◀──▶ Throttling { share }, with a throttle instead of a trip
//!   Held until reset()
//! ```
//!
//! Every transition begins a new epoch, but for those between `Recovering`, `Closed` and `Throttling`, over which calls
//! are counted on. A verdict carries the epoch in which its call was admitted, and one of an older epoch changes nothing.

mod steering;

use std::{num::NonZeroU64, time::Duration};

use buttress_core::Delays;
use tokio::time::Instant;

use crate::{
    meter::Meter,
    probing::{Probed, Probing},
    ramp::WHOLE,
    settings::Settings,
    shadow::{Candidate, Shadow},
    state::{Hold, Part, State, Ticket, Transition, Verdict},
    trip::Policy,
    window::{Buckets, Tally},
};

#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    phase: Phase,
    epoch: NonZeroU64,
    meter: Meter,
    /// The candidate of the settings, and the own thresholds while they are only tried.
    candidates: [Option<Candidate>; 2],
    open_for: Delays,
    /// The backend asked to be left alone until then.
    left_alone: Option<Instant>,
    /// How often it has opened.
    pub(crate) opened: u64,
    transitions: u64,
    next_lease: NonZeroU64,
    /// The bucket of time that windows were last moved on to.
    reached: u64,
    /// The length of a bucket as callers count them, two to this power of nanoseconds.
    shift: u32,
}

#[derive(Debug)]
enum Phase {
    Closed,
    Open { until: Instant },
    HalfOpen(Probing),
    Recovering { since: Instant, length: Duration },
    Throttling { share: u32, lasted: bool },
    Held(Hold),
}

impl Machine {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut machine = Self {
            phase: Phase::Closed,
            epoch: NonZeroU64::MIN,
            meter: Meter::new(settings.policy),
            candidates: [settings.shadow.map(|trip| Candidate::new(trip, settings.open_for)), None],
            open_for: settings.open_for.delays(),
            left_alone: None,
            opened: 0,
            transitions: 0,
            next_lease: NonZeroU64::MIN,
            reached: 0,
            shift: 0,
            settings,
        };
        machine.shift = machine.buckets().map_or(0, Buckets::shift);
        machine
    }

    pub(crate) const fn epoch(&self) -> NonZeroU64 {
        self.epoch
    }

    pub(crate) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) const fn state(&self) -> State {
        match self.phase {
            Phase::Closed => State::Closed,
            Phase::Open { .. } => State::Open,
            Phase::HalfOpen(_) => State::HalfOpen,
            Phase::Recovering { .. } => State::Recovering,
            Phase::Throttling { .. } => State::Throttling,
            Phase::Held(Hold::Open) => State::ForcedOpen,
            Phase::Held(Hold::Closed) => State::ForcedClosed,
            Phase::Held(Hold::MetricsOnly) => State::MetricsOnly,
        }
    }

    /// The shortest buckets of the windows of time; none where there are none.
    pub(crate) fn buckets(&self) -> Option<Buckets> {
        let policies = self.candidates.iter().flatten().map(Candidate::policy);
        let windows = policies.chain([self.settings.policy]).filter_map(Policy::window);
        windows.filter_map(Buckets::of_window).min_by_key(|buckets| buckets.shift())
    }

    /// Whether a call's duration is wanted whatever becomes of it.
    pub(crate) fn times_calls(&self) -> bool {
        let mut policies = self.candidates.iter().flatten().map(Candidate::policy);
        self.settings.policy.times_calls() || policies.any(Policy::times_calls)
    }

    /// How many good calls may be counted late, together.
    pub(crate) fn room(&self, most: u64) -> u64 {
        if self.candidates.iter().flatten().any(|candidate| !candidate.is_closed()) {
            return 1;
        }
        let policies = self.candidates.iter().flatten().map(Candidate::policy);
        let room = |policy: Policy| policy.window().map_or(1, |window| window.room(most));
        policies.chain([self.settings.policy]).map(room).min().unwrap_or(1)
    }

    /// Whether a good call would change nothing, so that it need not be told.
    pub(crate) fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Closed)
            && self.meter.is_quiet()
            && self.candidates.iter().flatten().all(Candidate::is_quiet)
    }

    /// When a call has a chance: the end of the open time, or of the next lease where every probe is out.
    pub(crate) fn refuses_until(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Open { until } => Some(*until),
            Phase::HalfOpen(probing) if probing.is_full(&self.settings.probes) => probing.next_expiry(),
            _ => None,
        }
    }

    /// What part of the calls is admitted, where that is not all or none.
    pub(crate) const fn part(&self) -> Option<Part> {
        match self.phase {
            Phase::Recovering { since, length } => {
                Some(Part::Growing { since, length, from: self.settings.ramp.first_share() })
            }
            Phase::Throttling { share, .. } => Some(Part::Share(share)),
            _ => None,
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        self.meter.tally()
    }

    pub(crate) const fn consecutive(&self) -> u64 {
        self.meter.consecutive()
    }

    /// What the candidate would have done; the own thresholds, where they are only tried.
    pub(crate) fn shadow(&self) -> Option<Shadow> {
        let [candidate, own] = &self.candidates;
        own.as_ref().or(candidate.as_ref()).map(Candidate::report)
    }

    /// Takes what has changed by time alone.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Transition> {
        match &self.phase {
            Phase::Recovering { since, length } if now >= *since + *length => {
                self.open_for = self.settings.open_for.delays();
                Some(self.go_on_counting(Phase::Closed))
            }
            Phase::Throttling { .. } => self.throttle(),
            _ => None,
        }
    }

    /// Admits a call, or says until when calls are refused (`None`: until somebody resets it). Which share of the calls
    /// comes here, where only a part is admitted, is for the caller.
    pub(crate) fn admit(&mut self, now: Instant) -> (Result<Ticket, Option<Instant>>, Option<Transition>) {
        let transition = match &self.phase {
            Phase::Open { until } if now >= *until => {
                Some(self.enter(Phase::HalfOpen(Probing::new(now)), None))
            }
            Phase::HalfOpen(probing) if probing.next_expiry().is_some_and(|until| now >= until) => {
                Some(self.open(now))
            }
            Phase::HalfOpen(probing) if probing.lasts(now) >= self.settings.probes.longest => {
                Some(self.recover(now))
            }
            _ => self.tick(now),
        };
        let epoch = self.epoch;
        let result = match &self.phase {
            Phase::Open { until } => Err(Some(*until)),
            Phase::Held(Hold::Open) => Err(None),
            Phase::HalfOpen(probing) if probing.is_full(&self.settings.probes) => Err(probing.next_expiry()),
            Phase::HalfOpen(_) => Ok(Ticket { epoch, probe: Some(self.lease(now)) }),
            Phase::Closed | Phase::Recovering { .. } | Phase::Throttling { .. } | Phase::Held(_) => {
                Ok(Ticket { epoch, probe: None })
            }
        };
        (result, transition)
    }

    fn lease(&mut self, now: Instant) -> NonZeroU64 {
        let number = self.next_lease;
        self.next_lease = number.saturating_add(1);
        if let Phase::HalfOpen(probing) = &mut self.phase {
            probing.lend(number, now + self.settings.probes.lease);
        }
        number
    }

    /// Takes the verdict on a probe.
    pub(crate) fn judge(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) -> Option<Transition> {
        let Phase::HalfOpen(probing) = &mut self.phase else { return None };
        if ticket.epoch != self.epoch {
            return None;
        }
        let slow_is_bad = self.settings.policy.times_calls();
        let transition = match probing.judge(ticket.probe?, verdict, slow_is_bad, now)? {
            Probed::Failed => Some(self.open(now)),
            Probed::Succeeded(n) => (n >= self.settings.probes.successes).then(|| self.recover(now)),
            Probed::Nothing => None,
        };
        if let Some(one) = verdict.tally() {
            self.try_out(one, || now);
        }
        transition
    }

    /// Adds calls that ended in that bucket of time to windows of time. [`count`](Self::count) must follow.
    pub(crate) fn add_to_bucket(&mut self, bucket: u64, ended: Tally) {
        if self.counts() {
            self.meter.add_to_bucket(bucket, self.shift, ended);
        }
        for candidate in self.candidates.iter_mut().flatten().filter(|candidate| candidate.is_closed()) {
            candidate.meter().add_to_bucket(bucket, self.shift, ended);
        }
    }

    /// Takes calls that ended since the last ones, the last of them a bad one if there was any.
    pub(crate) fn count(&mut self, ended: Tally, now: impl Fn() -> Instant) -> Option<Transition> {
        if !self.counts() {
            return None;
        }
        self.try_out(ended, &now);
        self.meter.count(ended);
        match self.phase {
            Phase::Closed | Phase::Throttling { .. }
                if matches!(self.settings.policy, Policy::Throttle(_)) =>
            {
                self.throttle()
            }
            // Only what is bad can open it: a success never makes a rate reach its threshold.
            Phase::Closed | Phase::Recovering { .. }
                if !self.meter.seen(ended).is_clean() && self.meter.is_tripped() =>
            {
                Some(self.open(now()))
            }
            _ => None,
        }
    }

    fn try_out(&mut self, ended: Tally, now: impl Fn() -> Instant) {
        let (successes, open_for) = (self.settings.probes.successes, self.settings.open_for);
        for candidate in self.candidates.iter_mut().flatten() {
            candidate.count(ended, successes, open_for, &now);
        }
    }

    const fn counts(&self) -> bool {
        match self.phase {
            Phase::Closed | Phase::Recovering { .. } | Phase::Throttling { .. } => true,
            Phase::Held(hold) => !matches!(hold, Hold::Open),
            Phase::Open { .. } | Phase::HalfOpen(_) => false,
        }
    }

    /// Looks what share is to be admitted. It goes on for one bucket after everything was, else a backend on the border
    /// would be told of at every call.
    fn throttle(&mut self) -> Option<Transition> {
        let Policy::Throttle(throttle) = self.settings.policy else { return None };
        let share = throttle.share(self.meter.tally());
        match self.phase {
            Phase::Closed if share < WHOLE => {
                Some(self.go_on_counting(Phase::Throttling { share, lasted: false }))
            }
            Phase::Throttling { lasted: true, .. } if share == WHOLE => {
                Some(self.go_on_counting(Phase::Closed))
            }
            Phase::Throttling { .. } => {
                self.phase = Phase::Throttling { share, lasted: false };
                None
            }
            _ => None,
        }
    }

    /// Moves windows of time on.
    pub(crate) fn advance(&mut self, bucket: u64) {
        self.meter.advance(bucket, self.shift);
        for candidate in self.candidates.iter_mut().flatten() {
            candidate.meter().advance(bucket, self.shift);
        }
        let is_another = std::mem::replace(&mut self.reached, bucket) != bucket;
        if let Phase::Throttling { lasted, .. } = &mut self.phase {
            *lasted |= is_another;
        }
    }

    /// The backend asks to be left alone until then.
    pub(crate) fn leave_alone(&mut self, until: Instant) {
        self.left_alone = self.left_alone.max(Some(until));
    }

    /// Opens it for as long as the backend asked for, if it is of that epoch.
    pub(crate) fn obey(&mut self, ticket: Ticket, now: Instant) -> Option<Transition> {
        let counts =
            matches!(self.phase, Phase::Closed | Phase::Recovering { .. } | Phase::Throttling { .. });
        let until = self.left_alone.filter(|until| *until > now)?;
        (counts && ticket.epoch == self.epoch).then(|| self.open_until(until, now))
    }

    fn open(&mut self, now: Instant) -> Transition {
        let length = self.open_for.next().unwrap_or(self.settings.open_for.cap());
        let until = later(now, length).max(self.left_alone.unwrap_or(now));
        self.open_until(until, now)
    }

    fn open_until(&mut self, until: Instant, now: Instant) -> Transition {
        self.opened += 1;
        self.enter(Phase::Open { until }, Some(until - now))
    }

    fn recover(&mut self, now: Instant) -> Transition {
        let length = self.settings.ramp.length(self.settings.policy);
        if length.is_zero() {
            self.open_for = self.settings.open_for.delays();
            return self.enter(Phase::Closed, None);
        }
        self.enter(Phase::Recovering { since: now, length }, None)
    }

    /// Into a state in which calls of the one before are counted on.
    fn go_on_counting(&mut self, phase: Phase) -> Transition {
        let from = self.state();
        self.phase = phase;
        self.transition(from, None)
    }

    fn enter(&mut self, phase: Phase, open_for: Option<Duration>) -> Transition {
        let from = self.state();
        self.phase = phase;
        self.epoch = self.epoch.saturating_add(1);
        let transition = self.transition(from, open_for);
        self.meter.clear();
        transition
    }

    fn transition(&mut self, from: State, open_for: Option<Duration>) -> Transition {
        self.transitions += u64::from(from != self.state());
        self.told(from, open_for)
    }

    /// What somebody who comes new to it is told.
    pub(crate) fn standing(&self) -> Transition {
        self.told(self.state(), None)
    }

    fn told(&self, from: State, open_for: Option<Duration>) -> Transition {
        let Tally { calls, failed, slow } = self.tally();
        let consecutive_failures = self.consecutive();
        let (number, to) = (self.transitions, self.state());
        Transition { number, from, to, calls, failed, slow, consecutive_failures, open_for }
    }
}

/// An `Instant` panics where it overflows; 30 years are long enough.
pub(crate) fn later(now: Instant, length: Duration) -> Instant {
    now + length.min(Duration::from_secs(30 * 365 * 86_400))
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
