use tokio::time::Instant;

use crate::loan::Inner;

/// Measures how long the first attempt of a call takes.
///
/// Only successes are measured: a backend that fails fast would seem to be fast. But whoever is given up, because a hedge
/// was faster or the caller left, counts as having taken until then, if that is longer than the delay. Else only those
/// that are not slow would ever be measured, the percentile would fall, more calls would be hedged, and so on.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) lent: &'static Inner,
    since: Option<Instant>,
}

impl Watch {
    #[inline]
    pub(crate) const fn new(lent: &'static Inner) -> Self {
        Self { lent, since: None }
    }

    pub(crate) const fn start(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// The attempt has ended.
    pub(crate) fn stop(&mut self, is_success: bool) {
        if let Some(since) = self.since.take()
            && is_success
        {
            let now = Instant::now();
            self.lent.estimator.record(now - since, now);
        }
    }

    /// Nobody waits for the attempt any more.
    pub(crate) fn give_up(&mut self) {
        let Some(since) = self.since.take() else { return };
        let now = Instant::now();
        if now - since >= self.lent.delay() {
            self.lent.estimator.record(now - since, now);
        }
    }
}

impl Drop for Watch {
    #[inline]
    fn drop(&mut self) {
        if self.since.is_some() {
            self.give_up();
        }
    }
}
