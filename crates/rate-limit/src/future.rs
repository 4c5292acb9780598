use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::Rejected;
use pin_project_lite::pin_project;

use crate::when_limited::{Begin, Entered};

pin_project! {
    /// The future of [`RateLimit`](crate::RateLimit).
    ///
    /// Dropped while it waits, it gives its place back. Units of a call that began stay taken.
    ///
    /// # Panics
    /// When it has to wait for units and there is no tokio runtime with a timer. What a poll after the answer does is for
    /// the future inside to say.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, W> {
        #[pin]
        state: State<F, W>,
    }
}

pin_project! {
    #[project = Project]
    #[derive(Debug)]
    enum State<F, W> {
        Running { #[pin] future: F },
        Waiting { #[pin] waiting: W },
        Refused { rejected: Rejected },
    }
}

impl<F, W> ResponseFuture<F, W> {
    #[inline]
    pub(crate) const fn running(future: F) -> Self {
        Self { state: State::Running { future } }
    }

    // Inlined, so that the future is written where it is polled, and not copied there: measured, a quarter of the call.
    #[inline(always)]
    pub(crate) fn of<Req>(entered: Entered<Req, W>, call: impl FnOnce(Req) -> F) -> Self {
        let state = match entered {
            Entered::Through(request) => State::Running { future: call(request) },
            Entered::Waiting(waiting) => State::Waiting { waiting },
            Entered::Refused(rejected) => State::Refused { rejected },
        };
        Self { state }
    }
}

#[expect(private_bounds, reason = "`WhenLimited` is sealed")]
impl<F, W: Begin<F>> ResponseFuture<F, W> {
    /// Until the call has begun. Out of line: most calls begin at once.
    #[inline(never)]
    fn poll_begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        let mut state = self.project().state;
        let begun = match state.as_mut().project() {
            Project::Running { .. } => return Poll::Ready(Ok(())),
            Project::Refused { rejected } => return Poll::Ready(Err(*rejected)),
            Project::Waiting { waiting } => ready!(waiting.poll_begin(cx)),
        };
        // The service and the request that waited are not needed any more.
        Poll::Ready(match begun {
            Ok(future) => {
                state.set(State::Running { future });
                Ok(())
            }
            Err(rejected) => {
                state.set(State::Refused { rejected });
                Err(rejected)
            }
        })
    }
}

impl<F, W, Res, Err> Future for ResponseFuture<F, W>
where
    F: Future<Output = Result<Res, Err>>,
    W: Begin<F>,
    Err: From<Rejected>,
{
    type Output = Result<Res, Err>;

    // Else the compiler leaves it out of line, and each result is copied once more.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Project::Running { future } = self.as_mut().project().state.project() {
                return future.poll(cx);
            }
            if let Err(rejected) = ready!(self.as_mut().poll_begin(cx)) {
                return Poll::Ready(Err(rejected.into()));
            }
        }
    }
}
