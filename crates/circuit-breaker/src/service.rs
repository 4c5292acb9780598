use std::task::{Context, Poll};

use buttress_core::{ByError, Classify, Rejected};
use tokio::time::Instant;
use tower_service::Service;

use crate::{Breaker, ResponseFuture, inner::Inner, permit::Admitted, published::Refusal};

/// A service behind a circuit breaker: made by [`CircuitBreakerLayer`](crate::CircuitBreakerLayer).
#[derive(Debug)]
pub struct CircuitBreaker<S, C = ByError> {
    inner: S,
    breaker: Breaker,
    /// The same, one pointer nearer.
    lent: &'static Inner,
    classify: C,
    /// What `poll_ready` found, for `call` to say: one reading of the clock serves both.
    refusal: Option<Refusal>,
}

impl<S, C> CircuitBreaker<S, C> {
    pub(crate) fn new(inner: S, breaker: Breaker, classify: C) -> Self {
        Self { inner, lent: breaker.inner(), breaker, classify, refusal: None }
    }

    /// The handle of the breaker.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        self.breaker.clone()
    }
}

impl<S: Clone, C: Clone> Clone for CircuitBreaker<S, C> {
    fn clone(&self) -> Self {
        // A refusal belongs to the one who polled, and would be old by the time the clone is called.
        Self {
            inner: self.inner.clone(),
            breaker: self.breaker.clone(),
            lent: self.lent,
            classify: self.classify.clone(),
            refusal: None,
        }
    }
}

impl<S, C, Req> Service<Req> for CircuitBreaker<S, C>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    /// Ready at once where the call would be refused: a refusal does not wait for the backend. (A service that was
    /// waiting already when the breaker opens goes on waiting.) An error is judged and counted like a call's.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        if self.lent.shared.admit_if_closed().is_none() && self.will_refuse() {
            return Poll::Ready(Ok(()));
        }
        match self.inner.poll_ready(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.count_unready(error))),
            other => other,
        }
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        if self.refusal.is_none()
            && let Some(ticket) = self.lent.shared.admit_if_closed()
        {
            let admitted = Admitted::new(self.lent, ticket);
            return ResponseFuture::running(self.inner.call(request), admitted, self.classify.clone());
        }
        match self.refuse_or_admit() {
            Err(refusal) => ResponseFuture::refused(self.lent, refusal),
            Ok(admitted) => {
                ResponseFuture::running(self.inner.call(request), admitted, self.classify.clone())
            }
        }
    }
}

// Out of line, so that the way of a call through a closed breaker is short enough to be inlined: then its future is
// written where it is polled, and not copied there.
impl<S, C> CircuitBreaker<S, C> {
    #[inline(never)]
    fn will_refuse(&mut self) -> bool {
        self.refusal = self.lent.shared.refusal(Instant::now);
        self.refusal.is_some()
    }

    #[inline]
    fn refuse_or_admit(&mut self) -> Result<Admitted, Refusal> {
        match self.refusal.take() {
            Some(refusal) => Err(refusal),
            None => Admitted::admit(self.lent),
        }
    }

    /// A backend that cannot be made ready: tower's own adapters report a failed connection there.
    #[cold]
    fn count_unready<Res, Err>(&self, error: Err) -> Err
    where
        C: Classify<Res, Err>,
    {
        let result = Result::<Res, Err>::Err(error);
        let outcome = self.classify.classify(&result);
        if let Ok(mut admitted) = Admitted::admit(self.lent) {
            admitted.finish(outcome);
        }
        let Err(error) = result else { unreachable!("it was made of an error") };
        error
    }
}
