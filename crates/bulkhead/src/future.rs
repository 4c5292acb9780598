use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Classify, Origin, Reason, Rejectable, Rejected};
use pin_project_lite::pin_project;

use crate::{permit::Admitted, when_full::Wait};

pin_project! {
    /// The future of [`Bulkhead`](crate::Bulkhead).
    ///
    /// Dropped unfinished, it gives its permit back, or leaves the queue.
    ///
    /// # Panics
    /// When it has to wait for a permit and there is no tokio runtime with a timer. What a poll after the answer does is
    /// for the future inside to say.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C, W> {
        #[pin]
        state: State<F, W>,
        classify: C,
    }
}

pin_project! {
    #[project = Project]
    #[derive(Debug)]
    enum State<F, W> {
        Running { #[pin] future: F, admitted: Admitted },
        Waiting { #[pin] waiting: W, origin: Origin },
        Refused { origin: Origin, reason: Reason },
    }
}

impl<F, C, W> ResponseFuture<F, C, W> {
    #[inline]
    pub(crate) const fn running(future: F, admitted: Admitted, classify: C) -> Self {
        Self { state: State::Running { future, admitted }, classify }
    }

    pub(crate) const fn waiting(waiting: W, origin: Origin, classify: C) -> Self {
        Self { state: State::Waiting { waiting, origin }, classify }
    }

    pub(crate) const fn refused(origin: Origin, reason: Reason, classify: C) -> Self {
        Self { state: State::Refused { origin, reason }, classify }
    }
}

#[expect(private_bounds, reason = "`WhenFull` is sealed")]
impl<F, C, W, Res, Err> ResponseFuture<F, C, W>
where
    W: Wait<F>,
    Err: From<Rejected>,
    F: Future<Output = Result<Res, Err>>,
{
    /// Until the call has begun. Out of line: most calls begin at once.
    #[inline(never)]
    fn poll_begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Err>> {
        let mut state = self.project().state;
        let (origin, reason) = match state.as_mut().project() {
            Project::Running { .. } => return Poll::Ready(Ok(())),
            Project::Refused { origin, reason } => (*origin, *reason),
            Project::Waiting { waiting, origin } => match ready!(waiting.poll_begin(cx)) {
                Ok((future, admitted)) => {
                    state.set(State::Running { future, admitted });
                    return Poll::Ready(Ok(()));
                }
                Err(reason) => (*origin, reason),
            },
        };
        // The service and the request that waited are not needed any more.
        state.set(State::Refused { origin, reason });
        Poll::Ready(Err(origin.reject(reason).into()))
    }
}

impl<F, C, W, Res, Err> Future for ResponseFuture<F, C, W>
where
    F: Future<Output = Result<Res, Err>>,
    C: Classify<Res, Err>,
    W: Wait<F>,
    Err: Rejectable,
{
    type Output = Result<Res, Err>;

    // Else the compiler leaves it out of line, and each result is copied once more.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let this = self.as_mut().project();
            let Project::Running { future, admitted } = this.state.project() else {
                match ready!(self.as_mut().poll_begin(cx)) {
                    Ok(()) => continue,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            };
            let Poll::Ready(result) = future.poll(cx) else {
                admitted.waits();
                return Poll::Pending;
            };
            admitted.finish_with(this.classify, &result);
            return Poll::Ready(result);
        }
    }
}
