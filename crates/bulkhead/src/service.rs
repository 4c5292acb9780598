use std::task::{Context, Poll};

use buttress_core::{ByError, Classify, Reason, Rejectable};
use tower_service::Service;

use crate::{
    ByTask, Criticality, Limiter, Prioritize, Reject, ResponseFuture,
    limiter::Inner,
    permit::Admitted,
    when_full::{Entered, WhenFull},
};

/// A service behind a bulkhead: made by [`BulkheadLayer`](crate::BulkheadLayer).
#[derive(Debug)]
pub struct Bulkhead<S, Q = Reject, P = ByTask, C = ByError> {
    inner: S,
    limiter: Limiter,
    /// The same, one pointer nearer.
    lent: &'static Inner,
    when_full: Q,
    prioritize: P,
    classify: C,
    /// `poll_ready` found the bulkhead full and the service inside not ready: `call` refuses.
    refuses: bool,
}

impl<S, Q, P, C> Bulkhead<S, Q, P, C> {
    pub(crate) fn new(inner: S, limiter: Limiter, when_full: Q, prioritize: P, classify: C) -> Self {
        Self { inner, lent: limiter.inner(), limiter, when_full, prioritize, classify, refuses: false }
    }

    /// The handle of the bulkhead.
    #[must_use]
    pub fn limiter(&self) -> Limiter {
        self.limiter.clone()
    }
}

impl<S: Clone, Q: Clone, P: Clone, C: Clone> Clone for Bulkhead<S, Q, P, C> {
    fn clone(&self) -> Self {
        // A refusal belongs to the one who polled, and would be old by the time the clone is called.
        Self {
            inner: self.inner.clone(),
            limiter: self.limiter.clone(),
            lent: self.lent,
            when_full: self.when_full.clone(),
            prioritize: self.prioritize.clone(),
            classify: self.classify.clone(),
            refuses: false,
        }
    }
}

impl<S, Q, P, C, Req> Service<Req> for Bulkhead<S, Q, P, C>
where
    S: Service<Req>,
    S::Error: Rejectable,
    Q: WhenFull<S, Req>,
    P: Prioritize<Req>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, Q::Waiting>;

    /// Takes no permit. Without a queue it is ready at once where the service inside is not and no permit is free: a
    /// refusal does not wait for the backend.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let poll = self.inner.poll_ready(cx);
        if Q::REFUSES {
            self.refuses = poll.is_pending() && self.lent.permits.is_full();
            if self.refuses {
                return Poll::Ready(Ok(()));
            }
        }
        poll
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        if !self.refuses
            && let Some(admitted) = Admitted::at_hand(self.lent)
        {
            return ResponseFuture::running(self.inner.call(request), admitted, self.classify.clone());
        }
        self.call_without_one_at_hand(request)
    }
}

impl<S, Q, P, C> Bulkhead<S, Q, P, C> {
    // Out of line, so that the way of a call that finds a permit is short enough to be inlined: then its future is written
    // where it is polled, and not copied there.
    #[inline(never)]
    fn call_without_one_at_hand<Req>(&mut self, request: Req) -> ResponseFuture<S::Future, C, Q::Waiting>
    where
        S: Service<Req>,
        Q: WhenFull<S, Req>,
        P: Prioritize<Req>,
        C: Clone,
    {
        if self.refuses {
            self.refuses = false;
            return ResponseFuture::refused(self.lent.origin, Reason::Overloaded, self.classify.clone());
        }
        enter(self.lent, &mut self.inner, request, &self.when_full, &self.prioritize, self.classify.clone())
    }
}

/// Takes a permit wherever there is one and calls the service, or lets the call wait, or refuses it.
pub(crate) fn enter<S, Req, Q, P, C>(
    lent: &'static Inner,
    service: &mut S,
    request: Req,
    when_full: &Q,
    prioritize: &P,
    classify: C,
) -> ResponseFuture<S::Future, C, Q::Waiting>
where
    S: Service<Req>,
    Q: WhenFull<S, Req>,
    P: Prioritize<Req>,
{
    let level = |request: &Req| prioritize.criticality(request).unwrap_or_else(Criticality::current);
    match when_full.enter(lent, level, service, request) {
        Entered::Admitted(admitted, request) => {
            ResponseFuture::running(service.call(request), admitted, classify)
        }
        Entered::Waiting(waiting) => ResponseFuture::waiting(waiting, lent.origin, classify),
        Entered::Refused(reason) => ResponseFuture::refused(lent.origin, reason, classify),
    }
}
