use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{Deadline, Reason, Rejected};
use pin_project_lite::pin_project;
use tokio::{
    sync::oneshot,
    time::{Instant, Sleep, sleep_until},
};

use crate::{
    clock,
    cluster::{
        desk::{Desk, Waiter},
        round_trip::is_late,
        shared::Shared,
    },
};

/// What becomes of a caller that waits.
#[derive(Debug)]
pub(crate) enum Verdict {
    Admitted(Paid),
    /// For so many nanoseconds, where that is known.
    Refused(Option<u64>),
    /// The store is away: the policy decides.
    Away,
}

/// Units that a caller was given. If he is not there to take them, they go back.
pub(crate) struct Paid {
    pub(crate) shared: Arc<Shared>,
    pub(crate) desk: Arc<Desk>,
    pub(crate) units: u32,
    /// When they were granted, at the earliest.
    pub(crate) granted: u64,
}

impl Drop for Paid {
    fn drop(&mut self) {
        if self.units > 0 {
            self.desk.slow().give_back(self.units, self.granted);
            self.shared.ring(&self.desk);
        }
    }
}

impl fmt::Debug for Paid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paid").field("units", &self.units).finish_non_exhaustive()
    }
}

pin_project! {
    /// A caller that waits for the store.
    ///
    /// Dropped, it leaves: what it was given already goes back.
    pub(crate) struct Wait {
        shared: Arc<Shared>,
        desk: Arc<Desk>,
        units: u32,
        since: u64,
        until: Instant,
        // Whether `until` is the caller's deadline, and not the limiter's timeout.
        is_deadline: bool,
        verdict: oneshot::Receiver<Verdict>,
        #[pin]
        sleep: Option<Sleep>,
    }

    impl PinnedDrop for Wait {
        fn drop(this: Pin<&mut Self>) {
            // One who waits keeps the worker.
            if this.shared.callers.leave() {
                this.shared.bell.notify_one();
            }
        }
    }
}

impl Wait {
    /// Lines up, and rings for the one who asks the store.
    ///
    /// # Panics
    /// Outside of a tokio runtime, where that one has to be started.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        desk: &Arc<Desk>,
        units: u32,
    ) -> Result<Pin<Box<Self>>, Rejected> {
        let now = Instant::now();
        let (mut until, mut is_deadline) = (now + shared.timeout, false);
        if let Some(deadline) = Deadline::current()
            && deadline.instant() <= until
        {
            if deadline.instant() <= now {
                return Err(shared.origin.reject(Reason::DeadlineExceeded));
            }
            (until, is_deadline) = (deadline.instant(), true);
        }
        if !shared.callers.enter(Shared::MOST_WAITING) {
            return Err(shared.origin.reject(Reason::Overloaded));
        }
        let (sender, verdict) = oneshot::channel();
        let (shared, desk) = (Arc::clone(shared), Arc::clone(desk));
        // From here on it is counted as waiting until it is dropped.
        let since = clock::now();
        let wait = Self { shared, desk, units, since, until, is_deadline, verdict, sleep: None };
        wait.desk.slow().waiting.push_back(Waiter { units, asked: false, verdict: sender });
        wait.shared.start();
        wait.shared.ring(&wait.desk);
        Ok(Box::pin(wait))
    }
}

impl Future for Wait {
    type Output = Result<(), Rejected>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut verdict = Pin::new(&mut *this.verdict).poll(cx);
        if verdict.is_pending() {
            if this.sleep.is_none() {
                this.sleep.set(Some(sleep_until(*this.until)));
            }
            if let Some(sleep) = this.sleep.as_mut().as_pin_mut()
                && sleep.poll(cx).is_pending()
            {
                return Poll::Pending;
            }
            // Nobody can answer from now on; somebody may have meanwhile.
            this.verdict.close();
            verdict = match this.verdict.try_recv() {
                Ok(verdict) => Poll::Ready(Ok(verdict)),
                Err(_) => Poll::Pending,
            };
        }
        Poll::Ready(match verdict {
            Poll::Ready(Ok(Verdict::Admitted(mut paid))) => {
                paid.units = 0;
                Ok(())
            }
            Poll::Ready(Ok(Verdict::Refused(after))) => Err(this.shared.refuse(after)),
            // Or the one who speaks with the store is no more.
            Poll::Ready(Ok(Verdict::Away) | Err(_)) => this.shared.decide_alone(this.desk, *this.units),
            Poll::Pending => {
                if !is_late(*this.until) {
                    this.shared.replace_if_stuck(*this.since);
                }
                if *this.is_deadline {
                    Err(this.shared.origin.reject(Reason::DeadlineExceeded))
                } else {
                    this.shared.decide_alone(this.desk, *this.units)
                }
            }
        })
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("units", &self.units).finish_non_exhaustive()
    }
}
