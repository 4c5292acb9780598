use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Deadline, Decision, Reason};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    Criticality, Queue,
    limiter::Inner,
    permit::Admitted,
    permits::Entry,
    waiters::{Key, Standing},
};

/// A place in the queue. Dropped, it is free again at once, and a permit that had just been granted goes to the next.
#[derive(Debug)]
pub(crate) struct Ticket {
    inner: &'static Inner,
    /// None when it is over.
    key: Option<Key>,
    until: Instant,
    /// What to say when the time is up.
    reason: Reason,
    sleep: Option<Pin<Box<Sleep>>>,
}

/// What becomes of a call at the door.
#[derive(Debug)]
pub(crate) enum Door {
    Open(Admitted),
    Wait(Ticket),
    Shut(Reason),
}

impl Ticket {
    /// Takes a permit, or a place in the queue. Where no permit is free the clock is read.
    pub(crate) fn draw(inner: &'static Inner, level: impl FnOnce() -> Criticality, queue: Queue) -> Door {
        if let Some(admitted) = Admitted::at_hand(inner) {
            return Door::Open(admitted);
        }
        let now = Instant::now();
        let (mut until, mut reason) = (now + queue.max_wait, Reason::Overloaded);
        if let Some(deadline) = Deadline::current()
            && deadline.instant() < until
        {
            (until, reason) = (deadline.instant(), Reason::DeadlineExceeded);
        }
        match inner.enter(level, until > now) {
            Entry::Permit(source) => Door::Open(Admitted::new(inner, source)),
            Entry::Wait(key) => Door::Wait(Self { inner, key: Some(key), until, reason, sleep: None }),
            Entry::Full => Door::Shut(if until > now { Reason::Overloaded } else { reason }),
        }
    }

    /// Waits for the permit.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Admitted, Reason>> {
        let key = self.key.expect("polled after its completion");
        let mut standing = self.inner.permits.look(key, cx.waker());
        if standing == Standing::Waiting {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(self.until)));
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            // It may have been granted meanwhile.
            standing = self.inner.permits.leave(key);
        }
        self.key = None;
        Poll::Ready(match standing {
            Standing::Granted(source) => Ok(Admitted::new(self.inner, source)),
            Standing::Waiting => {
                Decision::note(self.inner.origin, "gave_up", || "no permit became free in time".into());
                Err(self.reason)
            }
            Standing::Shed => {
                Decision::note(self.inner.origin, "gave_up", || {
                    "a call that matters more took its place".into()
                });
                Err(Reason::Overloaded)
            }
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(key) = self.key.take()
            && let Standing::Granted(source) = self.inner.permits.leave(key)
        {
            self.inner.permits.give_back(source);
        }
    }
}
