use std::{
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::Classify;
use tower_service::Service;

use crate::{
    Describe, ResponseFuture,
    call::{Call, Entered},
    recording::Loan,
    span::CallSpan,
};

/// A service whose calls are measured: made by [`TelemetryLayer`](crate::TelemetryLayer).
#[derive(Debug)]
pub struct Measured<S, V, C> {
    inner: S,
    loan: Arc<Loan>,
    convention: V,
    classify: C,
}

impl<S, V, C> Measured<S, V, C> {
    pub(crate) const fn new(inner: S, loan: Arc<Loan>, convention: V, classify: C) -> Self {
        Self { inner, loan, convention, classify }
    }
}

impl<S: Clone, V: Clone, C: Clone> Clone for Measured<S, V, C> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            loan: Arc::clone(&self.loan),
            convention: self.convention.clone(),
            classify: self.classify.clone(),
        }
    }
}

impl<S, V, C, Req> Service<Req> for Measured<S, V, C>
where
    S: Service<Req>,
    V: Describe<Req, S::Response, S::Error>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, V, C, Req>;

    /// As ready as what is inside. An error here is passed on and not counted: no call was made.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Else it is left out of line where much is inside, and the future of all that is copied once more.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        if CallSpan::is_wanted() {
            return self.call_in_span(request);
        }
        // Here nothing is moved to where it is kept: it is written there, which is half of what such a call costs.
        let lent = self.loan.lent;
        let begun = lent.begin(lent.operations.find(&self.convention.operation(&request)));
        let mut entered = Entered::new(begun);
        let future = entered.collect(|| self.inner.call(request));
        ResponseFuture::new(future, Call::without_span(begun, entered.leave()), self.classify.clone())
    }
}

impl<S, V, C> Measured<S, V, C> {
    #[inline(never)]
    fn call_in_span<Req>(&mut self, request: Req) -> ResponseFuture<S::Future, V, C, Req>
    where
        S: Service<Req>,
        V: Describe<Req, S::Response, S::Error>,
        C: Clone,
    {
        let lent = self.loan.lent;
        let mut call = Call::in_span(lent, lent.operations.find(&self.convention.operation(&request)));
        let future = call.enter(|| self.inner.call(request));
        call.waits();
        ResponseFuture::new(future, call, self.classify.clone())
    }
}
