use std::{
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use buttress_budget::Budget;
use buttress_core::{ByError, Classify, Rejectable};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    ReplayRequest, ResponseFuture,
    loan::{Inner, Loan},
};

/// A service whose late calls are hedged: made by [`HedgeLayer`](crate::HedgeLayer).
#[derive(Debug)]
pub struct Hedge<S, P, C = ByError> {
    inner: S,
    lent: &'static Inner,
    budget: Budget,
    requests: P,
    classify: C,
    /// Keeps the state from being lent to another layer.
    shared: Arc<OnceLock<Loan>>,
}

impl<S, P, C> Hedge<S, P, C> {
    pub(crate) const fn new(
        inner: S,
        lent: &'static Inner,
        shared: Arc<OnceLock<Loan>>,
        budget: Budget,
        requests: P,
        classify: C,
    ) -> Self {
        Self { inner, lent, budget, requests, classify, shared }
    }
}

impl<S: Clone, P: Clone, C: Clone> Clone for Hedge<S, P, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            lent: self.lent,
            budget: self.budget.clone(),
            requests: self.requests.clone(),
            classify: self.classify.clone(),
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S, P, C, Req> Service<Req> for Hedge<S, P, C>
where
    S: Service<Req> + Clone,
    S::Error: Rejectable,
    P: ReplayRequest<Req> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, Req, C, P>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    /// The service that was polled ready makes the first attempt. A clone of it makes the hedges, whose readiness the
    /// future awaits.
    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        self.budget.deposit(Instant::now);
        let kept = if self.lent.settings.attempts > 1 { self.requests.replay(&request) } else { None };
        let kept = kept.filter(|kept| self.requests.can_race(kept));
        let spare = kept.is_some().then(|| self.inner.clone());
        let first = self.inner.call(request);
        ResponseFuture::new(first, spare, kept, self.lent, self.classify.clone(), self.requests.clone())
    }
}
