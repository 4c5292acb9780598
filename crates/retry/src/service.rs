use std::{
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{ByError, Classify, Rejectable, thread_number, thread_stripes};
use tokio::time::Instant;
use tower_service::Service;

use crate::{CloneRequest, ReplayRequest, ResponseFuture, rules::Rules};

/// A service whose failed calls are repeated: made by [`RetryLayer`](crate::RetryLayer).
#[derive(Debug)]
pub struct Retry<S, C = ByError, P = CloneRequest> {
    inner: S,
    stripes: Arc<[Arc<Stripe<C, P>>]>,
}

/// What every call of a thread holds: a copy of the rules, with a reference count on a cache line of the thread's own.
/// One count for all threads would be a contended line at every call.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Stripe<C, P> {
    pub(crate) rules: Rules<C>,
    pub(crate) requests: P,
}

impl<S, C: Clone, P: Clone> Retry<S, C, P> {
    pub(crate) fn new(inner: S, rules: &Rules<C>, requests: &P) -> Self {
        let stripe = |_| Arc::new(Stripe { rules: rules.clone(), requests: requests.clone() });
        Self { inner, stripes: (0..thread_stripes()).map(stripe).collect() }
    }
}

impl<S: Clone, C, P> Clone for Retry<S, C, P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), stripes: Arc::clone(&self.stripes) }
    }
}

impl<S, C, P, Req> Service<Req> for Retry<S, C, P>
where
    S: Service<Req> + Clone,
    S::Error: Rejectable,
    C: Classify<S::Response, S::Error>,
    P: ReplayRequest<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, S::Future, C, P>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    /// The service that was polled ready makes the first attempt. A clone of it makes the others, whose readiness the
    /// future awaits.
    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let stripe = &self.stripes[thread_number() & (self.stripes.len() - 1)];
        stripe.rules.budget.deposit(Instant::now);
        let kept = if stripe.rules.retries > 0 { stripe.requests.replay(&request) } else { None };
        let spare = kept.is_some().then(|| self.inner.clone());
        ResponseFuture::new(self.inner.call(request), spare, kept, Arc::clone(stripe))
    }
}
