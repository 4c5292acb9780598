//! What decides whether a call is repeated, and when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Backoff, Classify, Deadline, Decision, Delays, Origin, Outcome, Rejectable, Rejected};
use tokio::time::Instant;

use crate::Budget;

#[derive(Debug, Clone)]
pub(crate) struct Rules<C> {
    pub(crate) origin: Origin,
    pub(crate) retries: u32,
    pub(crate) backoff: Backoff,
    pub(crate) budget: Budget,
    pub(crate) classify: C,
    pub(crate) counts: Arc<Counts>,
}

/// Written only where a call was not a success at once.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) retries: AtomicU64,
    pub(crate) attempts_exhausted: AtomicU64,
    pub(crate) budget_exhausted: AtomicU64,
    pub(crate) deadline_bound: AtomicU64,
    pub(crate) hint_too_long: AtomicU64,
}

/// How far a call has come. On the heap once it was repeated, because a future is moved at each call and few are
/// repeated.
#[derive(Debug, Default)]
pub(crate) struct Course(Option<Box<Repeated>>);

#[derive(Debug)]
struct Repeated {
    times: u32,
    delays: Delays,
    /// Whether an attempt before may have been carried out.
    sent: bool,
}

impl Course {
    pub(crate) fn retried(&self) -> u32 {
        self.0.as_ref().map_or(0, |repeated| repeated.times)
    }

    /// The last result, which must not say of the call that it was not sent where an attempt before may have been.
    #[inline]
    pub(crate) fn end<Res, Err: Rejectable>(&self, result: Result<Res, Err>) -> Result<Res, Err> {
        match (result, &self.0) {
            (Err(error), Some(repeated)) if repeated.sent => Err(after_sending(error)),
            (result, _) => result,
        }
    }
}

impl<C> Rules<C> {
    /// How long to wait before the next attempt, which is counted; `None` where the result stands.
    ///
    /// `can_replay` is asked only where the next attempt depends on it. It is told whether the attempt that failed may
    /// have reached the backend.
    #[inline]
    pub(crate) fn next<Res, Err>(
        &self,
        result: &Result<Res, Err>,
        course: &mut Course,
        can_replay: impl FnOnce(bool) -> bool,
    ) -> Option<Duration>
    where
        C: Classify<Res, Err>,
        Err: Rejectable,
    {
        let hint = match self.classify.classify(result) {
            Outcome::Success => return None,
            Outcome::Ignored if !is_by_one_of_several(result) => return None,
            Outcome::Ignored | Outcome::Failure => None,
            Outcome::Throttled(hint) => hint,
        };
        let error = result.as_ref().err();
        let sent = error.is_none_or(Rejectable::sent);
        self.after_failure(hint, error.and_then(Rejectable::rejected), sent, course, can_replay)
    }

    #[cold]
    fn after_failure(
        &self,
        hint: Option<Duration>,
        rejected: Option<&Rejected>,
        sent: bool,
        course: &mut Course,
        can_replay: impl FnOnce(bool) -> bool,
    ) -> Option<Duration> {
        let elsewhere = rejected.is_some_and(|rejected| rejected.is_by_one_of_several());
        // A breaker or a limiter inside has refused: another attempt at once would be refused as well.
        if rejected.is_some_and(|rejected| !rejected.sent() && rejected.outcome() != Outcome::Failure)
            && !elsewhere
        {
            return None;
        }
        if course.retried() >= self.retries {
            self.note("gave_up", || format!("all of {} attempts were made", self.retries.saturating_add(1)));
            return count(&self.counts.attempts_exhausted);
        }
        if !can_replay(sent) {
            return None;
        }
        let of_rejection = rejected.and_then(Rejected::retry_after);
        // Of one endpoint's own time, whoever speaks of it, the others know nothing.
        let hint = hint.max(of_rejection).filter(|_| !elsewhere).unwrap_or_default();
        if hint > self.backoff.cap() {
            self.note("gave_up", || {
                format!(
                    "it was told to wait {hint:.1?}, longer than its backoff's {:.1?}",
                    self.backoff.cap()
                )
            });
            return count(&self.counts.hint_too_long);
        }
        let repeated = course.0.get_or_insert_with(|| {
            Box::new(Repeated { times: 0, delays: self.backoff.delays(), sent: false })
        });
        // On top of the hint: all who were refused together were told the same time.
        let wait = hint.saturating_add(repeated.delays.next().unwrap_or(self.backoff.cap()));
        let now = Instant::now();
        let ends_before =
            |deadline: Deadline| now.checked_add(wait).is_some_and(|end| end < deadline.instant());
        if !Deadline::current().is_none_or(ends_before) {
            self.note("gave_up", || {
                format!("a wait of {wait:.1?} would not end before the caller's deadline")
            });
            return count(&self.counts.deadline_bound);
        }
        if !self.budget.withdraw(now) {
            self.note("gave_up", || "its budget of retries is used up".into());
            return count(&self.counts.budget_exhausted);
        }
        self.counts.retries.fetch_add(1, Relaxed);
        repeated.times += 1;
        repeated.sent |= sent;
        self.note("retried", || {
            let attempt = repeated.times.saturating_add(1);
            let why = match rejected {
                Some(rejected) => rejected.reason().as_str(),
                None if !hint.is_zero() => "throttled",
                None => "failure",
            };
            format!("attempt {attempt} of {} in {wait:.1?}, after: {why}", self.retries.saturating_add(1))
        });
        Some(wait)
    }

    fn note(&self, what: &'static str, why: impl FnOnce() -> String) {
        Decision::note(self.origin, what, why);
    }
}

/// One endpoint of a balancer inside has refused, as by a breaker of its own: the next attempt may go to another.
fn is_by_one_of_several<Res, Err: Rejectable>(result: &Result<Res, Err>) -> bool {
    let rejected = result.as_ref().err().and_then(Rejectable::rejected);
    rejected.is_some_and(Rejected::is_by_one_of_several)
}

#[cold]
fn after_sending<Err: Rejectable>(error: Err) -> Err {
    match error.rejected() {
        Some(rejected) if !rejected.sent() => rejected.after_sending().into(),
        _ => error,
    }
}

fn count<T>(counter: &AtomicU64) -> Option<T> {
    counter.fetch_add(1, Relaxed);
    None
}
