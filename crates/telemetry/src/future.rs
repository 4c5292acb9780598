use std::{
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Classify, Outcome};
use pin_project_lite::pin_project;

use crate::{Describe, call::Call, source::End};

pin_project! {
    /// The future of [`Measured`](crate::Measured). Dropped unfinished, the call counts as cancelled.
    ///
    /// # Panics
    /// When the future inside does, or the convention or the classifier: the call counts as panicked then. What a poll after
    /// the answer does is for the future inside to say; it is not counted.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F, V, C, Req> {
        // `None` only while this is dropped.
        #[pin]
        future: Option<F>,
        call: Call,
        classify: C,
        described: PhantomData<fn(Req) -> V>,
    }

    impl<F, V, C, Req> PinnedDrop for ResponseFuture<F, V, C, Req> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // What layers inside tell when they are dropped is of this call, and belongs into its span.
            if this.call.is_waiting() {
                this.call.enter(|| this.future.set(None));
                this.call.waits();
            }
        }
    }
}

// By hand: a derive would ask the request and the convention for it, of which it holds none.
impl<F: fmt::Debug, V, C: fmt::Debug, Req> fmt::Debug for ResponseFuture<F, V, C, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("future", &self.future)
            .field("classify", &self.classify)
            .finish_non_exhaustive()
    }
}

impl<F, V, C, Req> ResponseFuture<F, V, C, Req> {
    #[inline]
    pub(crate) const fn new(future: F, call: Call, classify: C) -> Self {
        Self { future: Some(future), call, classify, described: PhantomData }
    }
}

impl<F, V, C, Req, Res, Err> Future for ResponseFuture<F, V, C, Req>
where
    F: Future<Output = Result<Res, Err>>,
    V: Describe<Req, Res, Err>,
    C: Classify<Res, Err>,
{
    type Output = Result<Res, Err>;

    // Else the compiler leaves it out of line, and each result is copied once more.
    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let future = this.future.as_pin_mut().expect("it is there until this is dropped");
        if this.call.has_ended() {
            return future.poll(cx);
        }
        let Poll::Ready(result) = this.call.enter(|| future.poll(cx)) else {
            this.call.waits();
            return Poll::Pending;
        };
        let ended = V::end(&result);
        let end = match this.classify.classify(&result) {
            _ if ended.is_rejected => End::Rejected,
            Outcome::Success => End::Success,
            Outcome::Failure => End::Failure,
            Outcome::Ignored => End::Ignored,
            Outcome::Throttled(_) => End::Throttled,
        };
        this.call.finish(end, &ended);
        Poll::Ready(result)
    }
}
