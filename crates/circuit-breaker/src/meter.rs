//! What was counted, and whether it is too bad.

use crate::{
    trip::{Policy, Trip},
    window::{Sliding, Tally, is_one_of},
};

/// A window and a run of failures, with the thresholds that judge them.
#[derive(Debug)]
pub(crate) struct Meter {
    policy: Policy,
    window: Option<Sliding>,
    consecutive: u64,
}

impl Meter {
    pub(crate) fn new(policy: Policy) -> Self {
        Self { policy, window: policy.window().map(Sliding::new), consecutive: 0 }
    }

    /// Judges by other thresholds from now on. What was counted stays, as far as the new window reaches.
    pub(crate) fn change(&mut self, policy: Policy) {
        self.window = match (self.window.take(), policy.window()) {
            (Some(before), Some(window)) => Some(before.resized(window)),
            (_, window) => window.map(Sliding::new),
        };
        self.policy = policy;
    }

    pub(crate) const fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) fn tally(&self) -> Tally {
        self.window.as_ref().map(Sliding::tally).unwrap_or_default()
    }

    pub(crate) const fn consecutive(&self) -> u64 {
        self.consecutive
    }

    /// Whether a good call would change nothing.
    pub(crate) fn is_quiet(&self) -> bool {
        self.consecutive == 0 && self.window.as_ref().is_none_or(Sliding::is_full_of_successes)
    }

    /// Moves a window of time on; `shift` says how long a bucket is.
    pub(crate) fn advance(&mut self, bucket: u64, shift: u32) {
        if let Some(Sliding::Time(window)) = &mut self.window {
            window.advance(window.of_shared(bucket, shift));
        }
    }

    /// The calls as these thresholds see them: others beside them may ask how long calls take.
    pub(crate) fn seen(&self, ended: Tally) -> Tally {
        if self.policy.times_calls() { ended } else { Tally { slow: 0, ..ended } }
    }

    /// Adds calls that ended in that bucket to a window of time. [`count`](Self::count) must follow.
    pub(crate) fn add_to_bucket(&mut self, bucket: u64, shift: u32, ended: Tally) {
        let ended = self.seen(ended);
        if let Some(Sliding::Time(window)) = &mut self.window {
            window.add(window.of_shared(bucket, shift), ended);
        }
    }

    /// Takes calls that ended since the last ones, the last of them a bad one if there was any.
    pub(crate) fn count(&mut self, ended: Tally) {
        let ended = self.seen(ended);
        if let Some(Sliding::Calls(window)) = &mut self.window {
            window.add(ended);
        }
        if ended.calls > ended.failed {
            let at_the_end = |i: &u64| is_one_of(ended.failed, *i, ended.calls);
            self.consecutive = (0..ended.calls).rev().take_while(at_the_end).count() as u64;
        } else {
            self.consecutive += ended.failed;
        }
    }

    pub(crate) fn is_tripped(&self) -> bool {
        let Policy::Trip(Trip { rates, consecutive }) = self.policy else { return false };
        if consecutive.is_some_and(|n| self.consecutive >= u64::from(n)) {
            return true;
        }
        let tally = self.tally();
        rates.is_some_and(|rates| {
            tally.calls >= u64::from(rates.min_calls)
                && (rates.failed.is_reached(tally.failed, tally.calls)
                    || rates.slow.is_some_and(|slow| slow.is_reached(tally.slow, tally.calls)))
        })
    }

    /// Forgets what was counted.
    pub(crate) fn clear(&mut self) {
        self.consecutive = 0;
        if let Some(window) = &mut self.window {
            window.clear();
        }
    }
}
