use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Classify, Rejected};
use pin_project_lite::pin_project;

use crate::{inner::Inner, permit::Admitted, published::Refusal};

pin_project! {
    /// The future of [`CircuitBreaker`](crate::CircuitBreaker).
    ///
    /// Dropped unfinished, it gives its slot back; where it waited longer than `slow_call` it counts as a failure.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, C> {
        #[pin]
        state: State<F, C>,
    }
}

pin_project! {
    #[project = Project]
    #[derive(Debug)]
    enum State<F, C> {
        Running { #[pin] future: F, admitted: Admitted, classify: C },
        Refused { inner: &'static Inner, refusal: Refusal },
    }
}

impl<F, C> ResponseFuture<F, C> {
    #[inline]
    pub(crate) const fn running(future: F, admitted: Admitted, classify: C) -> Self {
        Self { state: State::Running { future, admitted, classify } }
    }

    #[inline]
    pub(crate) const fn refused(inner: &'static Inner, refusal: Refusal) -> Self {
        Self { state: State::Refused { inner, refusal } }
    }
}

impl<F, C, Res, Err> Future for ResponseFuture<F, C>
where
    F: Future<Output = Result<Res, Err>>,
    C: Classify<Res, Err>,
    Err: From<Rejected>,
{
    type Output = Result<Res, Err>;

    // Else the compiler leaves it out of line, and each result is copied once more: measured, a tenth of the call.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Project::Running { future, admitted, classify } => {
                let Poll::Ready(result) = future.poll(cx) else {
                    admitted.waits();
                    return Poll::Pending;
                };
                admitted.finish(classify.classify(&result));
                Poll::Ready(result)
            }
            Project::Refused { inner, refusal } => Poll::Ready(Err(inner.reject(*refusal).into())),
        }
    }
}
