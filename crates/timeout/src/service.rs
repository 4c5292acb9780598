use std::{
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Deadline, Origin, Rejectable, Scope};
use tower_service::Service;

use crate::ResponseFuture;

/// A service whose calls end in time: made by [`TimeoutLayer`](crate::TimeoutLayer).
#[derive(Debug, Clone, Copy)]
pub struct Timeout<S> {
    inner: S,
    limit: Duration,
    origin: Origin,
}

impl<S> Timeout<S> {
    pub(crate) const fn new(inner: S, limit: Duration, origin: Origin) -> Self {
        Self { inner, limit, origin }
    }
}

impl<S, Req> Service<Req> for Timeout<S>
where
    S: Service<Req>,
    S::Error: Rejectable,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    /// The readiness of the service inside. The limit begins with the call, so waiting here is not bounded by it.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    /// Calls the service inside, unless the surrounding deadline has passed. In that case its readiness is not used
    /// up: it holds for the next call, and is given back when the service is dropped, as tower asks of every service.
    // Else it is left out of line where much is inside, and the future of all that is copied once more.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        if Deadline::has_expired() {
            return ResponseFuture::refused(self.origin);
        }
        let mut scope = Scope::within(self.limit);
        let future = scope.enter(|| self.inner.call(request));
        ResponseFuture::running(future, scope, self.origin)
    }
}
