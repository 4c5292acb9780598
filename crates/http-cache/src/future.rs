use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;

use crate::ResponseBody;

/// The future of [`HttpCached`](crate::HttpCached).
///
/// Dropped while it asks the service, it hands over to a caller who waits for the same address, with that caller's own
/// request; the call under way is dropped.
///
/// # Panics
/// When it is polled after it was ready, and when it has to wait for another's answer outside of a tokio runtime with a
/// timer.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<B, E> {
    state: State<B, E>,
}

/// What is answered from memory takes no box. The rest of it is a conversation with a server.
enum State<B, E> {
    Ready(Option<Response<ResponseBody<B>>>),
    Running(Running<B, E>),
}

type Running<B, E> = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<B>>, E>> + Send>>;

impl<B, E> ResponseFuture<B, E> {
    pub(crate) const fn ready(response: Response<ResponseBody<B>>) -> Self {
        Self { state: State::Ready(Some(response)) }
    }

    pub(crate) const fn running(running: Running<B, E>) -> Self {
        Self { state: State::Running(running) }
    }
}

/// Nothing in it is pinned where it lies.
impl<B, E> Unpin for ResponseFuture<B, E> {}

impl<B, E> Future for ResponseFuture<B, E> {
    type Output = Result<Response<ResponseBody<B>>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            State::Ready(response) => {
                Poll::Ready(Ok(response.take().expect("it is not polled after it was ready")))
            }
            State::Running(running) => running.as_mut().poll(cx),
        }
    }
}

impl<B, E> fmt::Debug for ResponseFuture<B, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
