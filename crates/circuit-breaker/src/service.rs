use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{ByError, Classify, Rejected};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    ResponseFuture,
    handle::{Breaker, Inner, thread_number},
    permit::{Admitted, Host},
    shared::Refusal,
};

/// A service behind a circuit breaker: made by [`CircuitBreakerLayer`](crate::CircuitBreakerLayer).
#[derive(Debug)]
pub struct CircuitBreaker<S, C = ByError> {
    inner: S,
    stripes: Stripes<C>,
    /// What `poll_ready` found, for `call` to say: one reading of the clock serves both.
    refusal: Option<Refusal>,
}

impl<S, C> CircuitBreaker<S, C> {
    pub(crate) const fn new(inner: S, stripes: Stripes<C>) -> Self {
        Self { inner, stripes, refusal: None }
    }

    /// The handle of the breaker.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        self.stripes.breaker()
    }
}

impl<S: Clone, C> Clone for CircuitBreaker<S, C> {
    fn clone(&self) -> Self {
        // A refusal belongs to the one who polled, and would be old by the time the clone is called.
        Self { inner: self.inner.clone(), stripes: self.stripes.clone(), refusal: None }
    }
}

impl<S, C, Req> Service<Req> for CircuitBreaker<S, C>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    C: Classify<S::Response, S::Error>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C>;

    /// Ready at once where the call would be refused: a refusal does not wait for the backend. (A service that was
    /// waiting already when the breaker opens goes on waiting.) An error is judged and counted like a call's.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.refusal = self.stripes.of_thread().inner.shared.refusal(Instant::now);
        if self.refusal.is_some() {
            return Poll::Ready(Ok(()));
        }
        match self.inner.poll_ready(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.stripes.count_unready(error))),
            other => other,
        }
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let stripe = self.stripes.of_thread();
        if let Some(refusal) = self.refusal.take() {
            return ResponseFuture::refused(stripe.inner.reject(refusal));
        }
        match Admitted::admit(Arc::clone(stripe)) {
            Ok(admitted) => ResponseFuture::running(self.inner.call(request), admitted),
            Err(rejected) => ResponseFuture::refused(rejected),
        }
    }
}

/// What every call of a thread holds: the breaker and the classifier, with a reference count on a line of the thread's
/// own. One count for all threads would be a contended line at every call.
#[repr(align(128))]
pub(crate) struct Stripe<C> {
    pub(crate) inner: Arc<Inner>,
    pub(crate) classify: Arc<C>,
}

impl<C> Host for Arc<Stripe<C>> {
    #[inline]
    fn inner(&self) -> &Inner {
        &self.inner
    }
}

impl<C> fmt::Debug for Stripe<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// One [`Stripe`] for each processor.
pub(crate) struct Stripes<C>(Arc<[Arc<Stripe<C>>]>);

impl<C> Stripes<C> {
    pub(crate) fn new(inner: Arc<Inner>, classify: C) -> Self {
        let classify = Arc::new(classify);
        let stripe = |_| Arc::new(Stripe { inner: Arc::clone(&inner), classify: Arc::clone(&classify) });
        Self((0..inner.shared.cells()).map(stripe).collect())
    }

    #[inline]
    fn of_thread(&self) -> &Arc<Stripe<C>> {
        &self.0[thread_number() & (self.0.len() - 1)]
    }

    /// A backend that cannot be made ready: tower's own adapters report a failed connection there.
    #[cold]
    fn count_unready<Res, Err>(&self, error: Err) -> Err
    where
        C: Classify<Res, Err>,
    {
        let stripe = self.of_thread();
        let result = Result::<Res, Err>::Err(error);
        let outcome = stripe.classify.classify(&result);
        if let Ok(mut admitted) = Admitted::admit(Arc::clone(stripe)) {
            admitted.finish(outcome);
        }
        let Err(error) = result else { unreachable!("it was made of an error") };
        error
    }

    pub(crate) fn breaker(&self) -> Breaker {
        Breaker(Arc::clone(&self.0[0].inner))
    }
}

impl<C> fmt::Debug for Stripes<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[0].fmt(f)
    }
}

impl<C> Clone for Stripes<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}
