use std::num::NonZeroU64;

use buttress_core::{Deadline, Outcome, Rejected};
use tokio::time::Instant;

use crate::{
    breaker::{Ticket, Verdict},
    handle::{Inner, thread_number},
};

/// Whoever keeps the breaker alive for an admitted call.
pub(crate) trait Host {
    fn inner(&self) -> &Inner;
}

impl Host for &Inner {
    fn inner(&self) -> &Inner {
        self
    }
}

/// An admitted call. Dropped unfinished, it gives its slot back, and counts as failed where it waited too long.
#[derive(Debug)]
pub(crate) struct Admitted<H: Host> {
    host: H,
    ticket: Ticket,
    started: Option<Started>,
    finished: bool,
}

/// When the call began to take time: nanoseconds since the breaker was made, plus one.
#[derive(Debug, Clone, Copy)]
struct Started(NonZeroU64);

impl Started {
    #[inline]
    fn now(inner: &Inner) -> Option<Self> {
        NonZeroU64::new(inner.shared.nanos(Instant::now()) + 1).map(Self)
    }
}

impl<H: Host> Admitted<H> {
    /// Admits a call, or refuses it. The clock is read where the breaker is not closed, and where every call's duration
    /// is wanted.
    #[inline]
    pub(crate) fn admit(host: H) -> Result<Self, Rejected> {
        match host.inner().shared.admit_if_closed() {
            Some(ticket) => Ok(Self::new(host, ticket)),
            None => Self::admit_or_reject(host),
        }
    }

    #[cold]
    fn admit_or_reject(host: H) -> Result<Self, Rejected> {
        let inner = host.inner();
        let (result, transition) = inner.shared.admit(Instant::now);
        let rejected = |refusal| inner.reject(refusal);
        match result.map_err(rejected) {
            Ok(ticket) => {
                // The guard first: whoever is told may panic.
                let admitted = Self::new(host, ticket);
                transition.iter().for_each(|transition| admitted.host.inner().tell(transition));
                Ok(admitted)
            }
            Err(rejected) => {
                transition.iter().for_each(|transition| inner.tell(transition));
                Err(rejected)
            }
        }
    }

    #[inline]
    fn new(host: H, ticket: Ticket) -> Self {
        let started = if host.inner().shared.times_calls { Started::now(host.inner()) } else { None };
        Self { host, ticket, started, finished: false }
    }

    #[inline]
    pub(crate) const fn host(&self) -> &H {
        &self.host
    }

    /// The call has to wait: from now on it takes time.
    pub(crate) fn waits(&mut self) {
        if self.started.is_none() {
            self.started = Started::now(self.host.inner());
        }
    }

    #[inline]
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        self.finished = true;
        let shared = &self.host.inner().shared;
        let is_success = matches!(outcome, Outcome::Success);
        if !(is_success && !shared.times_calls && shared.is_quiet_for(self.ticket.epoch, thread_number())) {
            self.settle(outcome);
        }
    }

    #[inline(never)]
    fn settle(&self, outcome: Outcome) {
        let shared = &self.host.inner().shared;
        let now = shared.times_calls.then(Instant::now);
        let slow = now.is_some_and(|now| self.took_long(now));
        let verdict = match outcome {
            Outcome::Success => Verdict::Good { slow },
            Outcome::Failure | Outcome::Throttled(_) => Verdict::Bad { slow },
            // Given up at the caller's deadline: the same as a call that an outer timeout drops.
            Outcome::Ignored if Deadline::has_expired() => return self.give_up(),
            Outcome::Ignored => Verdict::None,
        };
        self.host.inner().settle(self.ticket, verdict, || now.unwrap_or_else(Instant::now));
    }

    /// Nobody knows what would have become of it, but a backend that leaves a call waiting that long is not well.
    #[cold]
    fn give_up(&self) {
        let settings = &self.host.inner().shared.settings;
        let now = (settings.count_dropped && self.started.is_some()).then(Instant::now);
        let verdict = match now {
            Some(now) if self.took_long(now) => Verdict::Bad { slow: true },
            _ => Verdict::None,
        };
        self.host.inner().settle(self.ticket, verdict, || now.unwrap_or_else(Instant::now));
    }

    fn took_long(&self, now: Instant) -> bool {
        let shared = &self.host.inner().shared;
        self.started.is_some_and(|Started(started)| {
            u128::from((shared.nanos(now) + 1).saturating_sub(started.get()))
                >= shared.settings.slow_call.as_nanos()
        })
    }
}

impl<H: Host> Drop for Admitted<H> {
    #[inline]
    fn drop(&mut self) {
        if !self.finished {
            self.give_up();
        }
    }
}
