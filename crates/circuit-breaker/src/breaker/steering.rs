//! What is done to the machine from outside: other settings, and states that somebody wants.

use std::time::Duration;

use tokio::time::Instant;

use super::{Machine, Phase, later};
use crate::{
    settings::Settings,
    shadow::Candidate,
    state::{Hold, Transition},
    trip::Trip,
    window::Buckets,
};

impl Machine {
    /// Works by other settings from now on: what was counted, and what is, live on.
    pub(crate) fn configure(&mut self, settings: Settings, now: Instant) -> Option<Transition> {
        let before = std::mem::replace(&mut self.settings, settings);
        if before.open_for != settings.open_for {
            self.open_for = settings.open_for.delays();
        }
        if before.policy != settings.policy {
            self.meter.change(settings.policy);
        }
        let [candidate, own] = &mut self.candidates;
        let replace = |candidate: &mut Option<Candidate>, trip: Option<Trip>| {
            if candidate.as_ref().zip(trip).is_none_or(|(before, trip)| !before.is_of(trip)) {
                *candidate = trip.map(|trip| Candidate::new(trip, settings.open_for));
            }
        };
        replace(candidate, settings.shadow);
        if matches!(self.phase, Phase::Held(Hold::MetricsOnly)) {
            replace(own, settings.policy.trip());
        }
        self.shift = self.buckets().map_or(0, Buckets::shift);
        if self.counts() && (before.policy, before.shadow) != (settings.policy, settings.shadow) {
            // Calls that run were admitted by those who count otherwise: another window, another way to time.
            self.epoch = self.epoch.saturating_add(1);
        }
        match &self.phase {
            Phase::HalfOpen(probing) if probing.succeeded() >= settings.probes.successes => {
                Some(self.recover(now))
            }
            Phase::Throttling { .. } if settings.policy.trip().is_some() => {
                Some(self.go_on_counting(Phase::Closed))
            }
            _ => None,
        }
    }

    /// Holds it until [`reset`](Self::reset).
    pub(crate) fn hold(&mut self, hold: Hold) -> Transition {
        let own = self.settings.policy.trip().filter(|_| hold == Hold::MetricsOnly);
        self.candidates[1] = own.map(|trip| Candidate::new(trip, self.settings.open_for));
        self.shift = self.buckets().map_or(0, Buckets::shift);
        self.enter(Phase::Held(hold), None)
    }

    /// Opens it for that long, whatever was counted; not while it is held.
    pub(crate) fn isolate(&mut self, length: Duration, now: Instant) -> Option<Transition> {
        let is_held = matches!(self.phase, Phase::Held(_));
        (!is_held).then(|| self.enter(Phase::Open { until: later(now, length) }, Some(length)))
    }

    /// Closes it and forgets what was counted.
    pub(crate) fn reset(&mut self) -> Transition {
        self.open_for = self.settings.open_for.delays();
        self.left_alone = None;
        self.candidates[1] = None;
        self.enter(Phase::Closed, None)
    }

    /// As good as new. The transitions are counted on, so that those of before are known: returns how many there were.
    pub(crate) fn renew(&mut self) -> u64 {
        self.reset();
        self.opened = 0;
        self.candidates[0] = self.settings.shadow.map(|trip| Candidate::new(trip, self.settings.open_for));
        self.transitions
    }
}
