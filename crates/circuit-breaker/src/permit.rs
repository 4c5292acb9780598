use std::time::Duration;

use buttress_core::Outcome;
use tokio::time::Instant;

use crate::{
    breaker::{Ticket, Verdict},
    handle::Inner,
};

/// Whoever keeps the breaker alive for an admitted call.
pub(crate) trait Host {
    fn inner(&self) -> &Inner;
}

/// An admitted call. Dropped unfinished, it gives its slot back, and counts as failed where it waited too long.
#[derive(Debug)]
pub(crate) struct Admitted<H: Host> {
    host: H,
    ticket: Ticket,
    started: Option<Instant>,
    finished: bool,
}

impl<H: Host> Admitted<H> {
    pub(crate) const fn new(host: H, ticket: Ticket, started: Option<Instant>) -> Self {
        Self { host, ticket, started, finished: false }
    }

    pub(crate) const fn host(&self) -> &H {
        &self.host
    }

    /// The call has to wait: from now on it takes time.
    pub(crate) fn waits(&mut self) {
        if self.started.is_none() {
            self.started = Some(Instant::now());
        }
    }

    pub(crate) fn finish(&mut self, outcome: Outcome) {
        self.finished = true;
        let inner = self.host.inner();
        let settings = &inner.shared.settings;
        // Read at most once, and only by those who ask.
        let now = std::cell::OnceCell::new();
        let read = || *now.get_or_init(Instant::now);
        let took = |longest: Duration| self.started.is_some_and(|started| read() - started >= longest);
        let verdict = match outcome {
            Outcome::Success => Verdict::Good { slow: settings.times_calls() && took(settings.slow_call) },
            Outcome::Failure | Outcome::Throttled(_) => {
                Verdict::Bad { slow: settings.times_calls() && took(settings.slow_call) }
            }
            // Nobody knows what would have become of it, but a backend that leaves a call waiting that long is not well.
            Outcome::Ignored if settings.count_dropped && took(settings.slow_call) => {
                Verdict::Bad { slow: true }
            }
            Outcome::Ignored => Verdict::None,
        };
        inner.settle(self.ticket, verdict, read);
    }
}

impl<H: Host> Drop for Admitted<H> {
    fn drop(&mut self) {
        if !self.finished {
            self.finish(Outcome::Ignored);
        }
    }
}
