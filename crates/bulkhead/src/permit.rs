use buttress_core::{Classify, Deadline, Outcome, Rejectable};
use tokio::time::Instant;

use crate::{adaptive::Verdict, limiter::Inner, waiters::Source};

/// A permit that is held. It is given back when it is dropped.
///
/// Whole words without gaps: it is moved into the future of each call, and a gap would be copied along.
#[derive(Debug)]
pub(crate) struct Admitted {
    inner: &'static Inner,
    source: usize,
    /// When the call began to take time, on the bulkhead's own clock; zero before. Only an adaptive limit asks.
    started: u64,
}

const GENERAL: usize = 0;
const RESERVE: usize = 1;
const GIVEN_BACK: usize = 2;

impl Admitted {
    /// Takes a permit where one lies at hand.
    #[inline]
    pub(crate) fn at_hand(inner: &'static Inner) -> Option<Self> {
        inner.permits.take().then(|| Self { inner, source: GENERAL, started: 0 })
    }

    #[inline]
    pub(crate) fn new(inner: &'static Inner, source: Source) -> Self {
        let source = match source {
            Source::General => GENERAL,
            Source::Reserve => RESERVE,
        };
        Self { inner, source, started: 0 }
    }

    /// The call has to wait: from now on it takes time.
    #[inline]
    pub(crate) fn waits(&mut self) {
        if self.started == 0
            && let Some(adaptive) = &self.inner.adaptive
        {
            self.started = adaptive.nanos(Instant::now());
        }
    }

    /// The call ended like this, where a failure means that the backend has too much to do.
    pub(crate) fn finish(&mut self, outcome: Outcome) {
        if self.inner.adaptive.is_some() {
            self.tell(outcome, false);
        }
        self.give_back();
    }

    /// The call ended with this result.
    #[inline]
    pub(crate) fn finish_with<Res, Err: Rejectable>(
        &mut self,
        classify: &impl Classify<Res, Err>,
        result: &Result<Res, Err>,
    ) {
        // Polled again after its answer, where the future inside puts up with that.
        if self.source == GIVEN_BACK {
            return;
        }
        if self.inner.adaptive.is_some() {
            let outcome = classify.classify(result);
            // Of failures, those that a layer inside gave up: it timed out. A backend that fails by itself may have
            // nothing to do at all, and a lower limit would not mend it.
            let is_its_own =
                outcome == Outcome::Failure && result.as_ref().is_err_and(|error| error.rejected().is_none());
            self.tell(outcome, is_its_own);
        }
        self.give_back();
    }

    /// A call that was ready at once never waited for the backend: its success says nothing.
    #[inline]
    fn tell(&self, outcome: Outcome, is_its_own: bool) {
        if self.started != 0 || outcome != Outcome::Success {
            self.tell_more(outcome, is_its_own);
        }
    }

    #[inline(never)]
    fn tell_more(&self, outcome: Outcome, is_its_own: bool) {
        match outcome {
            Outcome::Success => self.record(Verdict::Good),
            // Given up at the caller's deadline: the same as a call that an outer timeout drops.
            Outcome::Failure if is_its_own || Deadline::has_expired() => self.give_up(),
            Outcome::Failure | Outcome::Throttled(_) => self.record(Verdict::Bad),
            Outcome::Ignored => {}
        }
    }

    fn record(&self, verdict: Verdict) {
        if let Some(adaptive) = &self.inner.adaptive {
            adaptive.record(&self.inner.permits, self.started, verdict, Instant::now());
        }
    }

    /// Nobody knows what would have become of it, but a backend that leaves a call waiting that long has too much to do.
    #[cold]
    fn give_up(&self) {
        if self.started != 0 {
            self.record(Verdict::Dropped);
        }
    }

    #[inline]
    fn give_back(&mut self) {
        let source = if self.source == GENERAL { Source::General } else { Source::Reserve };
        self.source = GIVEN_BACK;
        self.inner.permits.give_back(source);
    }
}

impl Drop for Admitted {
    #[inline]
    fn drop(&mut self) {
        if self.source != GIVEN_BACK {
            if self.inner.adaptive.is_some() {
                self.give_up();
            }
            self.give_back();
        }
    }
}
