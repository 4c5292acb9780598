use tokio::time::Instant;

use crate::{histogram, loan::Inner};

/// Measures how long the first attempt of a call takes.
///
/// A success is measured, and a failure is not: a backend that fails fast would seem to be fast. But whoever fails
/// later than the delay, or is given up later because a hedge was faster or the caller left, counts as having taken
/// until then. Else only those that are not slow would ever be measured, the percentile would fall, more calls would be
/// hedged, and so on; and where a limit for each attempt cuts off all of them, nothing would tell that the backend is
/// slow.
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

    /// The attempt has ended, or nobody waits for it any more.
    pub(crate) fn stop(&mut self, is_success: bool) {
        let Some(since) = self.since.take() else { return };
        let now = Instant::now();
        let took = now - since;
        // Compared as it would be told: the delay is rounded up, and who takes as long as it would be missing.
        if is_success || histogram::rounded_up(took) >= self.lent.delay() {
            self.lent.estimator.record(took, now);
        }
    }
}

impl Drop for Watch {
    #[inline]
    fn drop(&mut self) {
        if self.since.is_some() {
            self.stop(false);
        }
    }
}
