use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Classify, Outcome, Reason, Rejectable};

use crate::{
    config::{Nanos, nanos},
    member::Member,
};

/// An endpoint that refused a call without a word about when to come back is left alone for so long,
const PAUSE: Duration = Duration::from_millis(100);
/// and one that named a time, at most for so long.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A call on an endpoint, counted as pending there until it has ended or is dropped.
#[derive(Debug)]
pub(crate) struct Admitted<K, S> {
    member: Arc<Member<K, S>>,
    began: Nanos,
    epoch: u32,
    state: Counted,
}

#[derive(Debug, PartialEq, Eq)]
enum Counted {
    /// The service has not been called.
    Chosen,
    /// The endpoint's own code runs. Dropped like that, it has panicked.
    Running,
    Sent,
    Ended,
}

impl<K, S> Admitted<K, S> {
    #[inline]
    pub(crate) fn new(member: Arc<Member<K, S>>, now: Nanos) -> Self {
        member.state.pending.fetch_add(1, Relaxed);
        let epoch = member.state.verdicts.epoch();
        Self { member, began: now, epoch, state: Counted::Chosen }
    }

    pub(crate) fn member(&self) -> &Arc<Member<K, S>> {
        &self.member
    }

    /// Asks the service whether it is ready.
    #[inline]
    pub(crate) fn ask<R>(&mut self, code: impl FnOnce() -> R) -> R {
        self.run(Counted::Chosen, code)
    }

    /// Calls the service, or polls its call.
    #[inline]
    pub(crate) fn send<R>(&mut self, code: impl FnOnce() -> R) -> R {
        self.run(Counted::Sent, code)
    }

    #[inline]
    fn run<R>(&mut self, then: Counted, code: impl FnOnce() -> R) -> R {
        self.state = Counted::Running;
        let result = code();
        self.state = then;
        result
    }

    /// The call ended with this.
    #[inline]
    pub(crate) fn finish<C, Res, Err>(&mut self, classify: &C, result: &Result<Res, Err>)
    where
        C: Classify<Res, Err>,
        Err: Rejectable,
    {
        // Still counted as dropped, should the classifier panic.
        let outcome = classify.classify(result);
        self.state = Counted::Ended;
        let now = self.member.now();
        let took = now.saturating_sub(self.began);
        let state = &self.member.state;
        let is_current = state.verdicts.epoch() == self.epoch;
        if outcome == Outcome::Success {
            state.successes.fetch_add(1, Relaxed);
            if is_current {
                state.verdicts.success(self.epoch);
                state.load.record(took, now, &self.member.pace);
            }
        } else if is_current {
            let refused = result.as_ref().err().and_then(Rejectable::rejected).filter(|it| !it.sent());
            match (outcome, refused) {
                // His deadline is the caller's, and not the endpoint's.
                (Outcome::Ignored, Some(refused)) if refused.reason() == Reason::DeadlineExceeded => {}
                (Outcome::Ignored, Some(refused)) => self.avoid(refused.retry_after().unwrap_or(PAUSE), now),
                (Outcome::Throttled(after), _) => {
                    state.load.punish(took, now, &self.member.pace);
                    self.avoid(after.unwrap_or_default(), now);
                }
                (Outcome::Failure, _) => self.failed(took, now),
                _ => state.load.record(took, now, &self.member.pace),
            }
        } else if outcome == Outcome::Failure {
            state.failures.fetch_add(1, Relaxed);
        }
    }

    #[cold]
    fn failed(&self, took: Nanos, now: Nanos) {
        let state = &self.member.state;
        state.failures.fetch_add(1, Relaxed);
        state.load.punish(took, now, &self.member.pace);
        if let Some(pool) = self.member.pool.upgrade() {
            let ejection = &pool.settings.ejection;
            if !ejection.is_off() && state.verdicts.failure(self.epoch, ejection.consecutive) {
                pool.failed_in_a_row(&self.member, self.epoch, now);
            }
        }
    }

    /// One that panics at once must not look fast either.
    #[cold]
    fn panicked(&self) {
        let now = self.member.now();
        if self.member.state.verdicts.epoch() == self.epoch {
            self.failed(now.saturating_sub(self.began), now);
        } else {
            self.member.state.failures.fetch_add(1, Relaxed);
        }
    }

    /// Nobody waits for it any more.
    #[cold]
    fn gave_up(&self) {
        let now = self.member.now();
        let state = &self.member.state;
        if state.verdicts.epoch() == self.epoch {
            let pace = &self.member.pace;
            state.load.gave_up(now.saturating_sub(self.began), now, pace, || {
                self.member.pool.upgrade()?.fastest_but(&self.member, now)
            });
        }
    }

    #[cold]
    fn avoid(&self, time: Duration, now: Nanos) {
        let until = now.saturating_add(nanos(time.min(LONGEST_PAUSE)));
        self.member.state.avoided_until.fetch_max(until, Relaxed);
    }
}

impl<K, S> Drop for Admitted<K, S> {
    #[inline]
    fn drop(&mut self) {
        self.member.state.pending.fetch_sub(1, Relaxed);
        match self.state {
            Counted::Chosen | Counted::Ended => {}
            Counted::Running => self.panicked(),
            Counted::Sent => self.gave_up(),
        }
    }
}
