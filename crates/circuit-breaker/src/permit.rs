use buttress_core::{Deadline, Outcome, thread_number};
use tokio::time::Instant;

use crate::{
    inner::Inner,
    published::Refusal,
    state::{Ticket, Verdict},
};

/// An admitted call. Dropped unfinished, it gives its slot back, and counts as failed where it waited too long.
///
/// Whole words without gaps: it is moved into the future of each call, and a gap would be copied along.
#[derive(Debug)]
pub(crate) struct Admitted {
    inner: &'static Inner,
    /// None when it is finished.
    ticket: Option<Ticket>,
    /// When the call began to take time. As it was read: whatever is made of it at once has to wait for the clock.
    started: Option<Instant>,
}

impl Admitted {
    /// Admits a call, or refuses it. The clock is read where the breaker is not closed, and where every call's duration
    /// is wanted.
    pub(crate) fn admit(inner: &'static Inner) -> Result<Self, Refusal> {
        let (result, changes) = inner.shared.admit(Instant::now);
        // The guard first: whoever is told may panic.
        let result = result.map(|ticket| Self::new(inner, ticket));
        inner.tell_all(&changes);
        result
    }

    #[inline]
    pub(crate) fn new(inner: &'static Inner, ticket: Ticket) -> Self {
        let started = if inner.shared.knobs.0.times_calls() { Some(Instant::now()) } else { None };
        Self { inner, ticket: Some(ticket), started }
    }

    /// The call has to wait: from now on it takes time.
    pub(crate) fn waits(&mut self) {
        if self.started.is_none() {
            self.started = Some(Instant::now());
        }
    }

    #[inline]
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        let Some(ticket) = self.ticket.take() else { return };
        let shared = &self.inner.shared;
        if matches!(outcome, Outcome::Success) {
            let done = if shared.knobs.0.times_calls() {
                self.gather(ticket)
            } else {
                shared.is_quiet_for(ticket, thread_number())
            };
            if done {
                return;
            }
        }
        self.settle(ticket, outcome);
    }

    /// The most that happens to most calls that are timed: they are gathered with others that were good and not slow.
    #[inline(never)]
    fn gather(&self, ticket: Ticket) -> bool {
        let now = Instant::now();
        !self.took_long(now) && self.inner.shared.gather_good(thread_number(), ticket, now)
    }

    #[cold]
    fn settle(&self, ticket: Ticket, outcome: Outcome) {
        let shared = &self.inner.shared;
        // Once more, for the few good calls that could not be gathered: to hand the reading on would cost each of them.
        let now = shared.knobs.0.times_calls().then(Instant::now);
        let slow = now.is_some_and(|now| self.took_long(now));
        let verdict = match outcome {
            Outcome::Success => Verdict::Good { slow },
            // Given up at the caller's deadline: the same as a call that an outer timeout drops.
            Outcome::Failure if Deadline::has_expired() => return self.give_up(ticket),
            Outcome::Failure | Outcome::Throttled(_) => Verdict::Bad { slow },
            Outcome::Ignored => Verdict::None,
        };
        if let Outcome::Throttled(Some(length)) = outcome {
            let now = now.unwrap_or_else(Instant::now);
            // Before it is counted: if the breaker opens by this call, then for that long.
            self.inner.tell_all(&shared.leave_alone(ticket, length, now));
        }
        self.inner.settle(ticket, verdict, || now.unwrap_or_else(Instant::now));
    }

    /// Nobody knows what would have become of it, but a backend that leaves a call waiting that long is not well.
    #[cold]
    fn give_up(&self, ticket: Ticket) {
        let shared = &self.inner.shared;
        let now = (shared.knobs.0.counts_dropped() && self.started.is_some()).then(Instant::now);
        let verdict = match now {
            Some(now) if self.took_long(now) => Verdict::Bad { slow: true },
            _ => Verdict::None,
        };
        self.inner.settle(ticket, verdict, || now.unwrap_or_else(Instant::now));
    }

    #[inline]
    fn took_long(&self, now: Instant) -> bool {
        let knobs = &self.inner.shared.knobs.0;
        self.started.is_some_and(|started| knobs.is_slow(now.saturating_duration_since(started)))
    }
}

impl Drop for Admitted {
    #[inline]
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.give_up(ticket);
        }
    }
}
