use std::{
    future::poll_fn,
    mem::forget,
    panic::{AssertUnwindSafe, catch_unwind},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use crate::{
    Status,
    probe::{Asking, Probe},
};

/// How one probe ended.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) status: Status,
    pub(crate) timed_out: bool,
    pub(crate) took: Duration,
}

/// Asks once. Whatever the probe does, short of blocking the thread, there is an answer.
pub(crate) async fn attempt(probe: &mut Probe, limit: Duration) -> Attempt {
    let begun = Instant::now();
    let answer = match caught(|| probe.ask()) {
        Some(asking) => {
            let mut held = Held(Some(asking));
            timeout(limit, poll_fn(move |cx| held.poll(cx))).await
        }
        None => Ok(panicked()),
    };
    let timed_out = answer.is_err();
    let status = answer.unwrap_or_else(|_| Status::down(format_args!("no answer within {limit:?}")));
    Attempt { status, timed_out, took: begun.elapsed() }
}

/// The panic's message is the panic hook's to show: it may quote anything.
fn panicked() -> Status {
    Status::down("the probe panicked")
}

/// None if it panics.
pub(crate) fn caught<T>(f: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(thrown) => {
            // Whatever was thrown may panic in its drop as well, and what that throws is better leaked.
            catch_unwind(AssertUnwindSafe(|| drop(thrown))).unwrap_or_else(forget);
            None
        }
    }
}

/// A probe's future, whose panics end here: those of its drop too.
struct Held(Option<Asking>);

impl Held {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let Some(asking) = &mut self.0 else { return Poll::Pending };
        caught(|| asking.as_mut().poll(cx)).unwrap_or_else(|| Poll::Ready(panicked()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        caught(|| self.0 = None);
    }
}
