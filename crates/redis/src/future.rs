use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use fred::types::Value;
use tokio::runtime::Handle;

use crate::error::Error;

/// Boxed: the driver's calls are `async fn`s, which have no name, and each of them allocates several times anyway.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<Value, Error>> + Send>>;

/// The future of a command: made by [`Redis`](crate::Redis).
///
/// Nothing is sent before it is polled. Dropped unfinished, the command may still be carried out, but no later than its
/// time limit says: one that waits for a connection by then is thrown away. Its answer is thrown away, and the
/// connection serves the others as before.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture(State);

enum State {
    Refused(Error),
    Fresh(Running),
    Running(Running),
    Done,
}

impl ResponseFuture {
    pub(crate) fn refused(error: Error) -> Self {
        Self(State::Refused(error))
    }

    pub(crate) fn fresh(call: Running) -> Self {
        Self(State::Fresh(call))
    }
}

impl Future for ResponseFuture {
    type Output = Result<Value, Error>;

    /// # Panics
    /// When it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut call = match std::mem::replace(&mut self.0, State::Done) {
            State::Refused(error) => return Poll::Ready(Err(error)),
            State::Fresh(call) | State::Running(call) => call,
            State::Done => panic!("polled after it was ready"),
        };
        let poll = call.as_mut().poll(cx);
        if poll.is_pending() {
            self.0 = State::Running(call);
        }
        poll
    }
}

impl Drop for ResponseFuture {
    fn drop(&mut self) {
        // The driver throws a waiting command away when its call times out, and only then. Without somebody to wait for
        // that, a command dropped during an outage would be carried out at its end.
        if let State::Running(call) = std::mem::replace(&mut self.0, State::Done)
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(call);
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResponseFuture")
    }
}
