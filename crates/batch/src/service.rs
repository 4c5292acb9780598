use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::Rejectable;
use tower_service::Service;

use crate::{Batch, ResponseFuture, inner::Inner, rules::Rules};

/// A service behind a batcher: made by [`BatchLayer`](crate::BatchLayer). Clones gather together.
pub struct Batched<S, Req, Res, E> {
    inner: Arc<Inner<S, Req, Res, E>>,
}

impl<S, Req, Res, E> Batched<S, Req, Res, E> {
    pub(crate) fn new(service: S, rules: Rules<Req, Res, E>) -> Self {
        Self { inner: Arc::new(Inner::new(service, rules)) }
    }

    /// A handle to the same batcher.
    #[must_use]
    pub fn batch(&self) -> Batch<Req, Res, E>
    where
        S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
        S::Future: Send,
        Req: Send + 'static,
        Res: Send + 'static,
        E: Rejectable + Send + 'static,
    {
        Batch::new(self.inner.clone())
    }
}

impl<S, Req, Res, E> Service<Req> for Batched<S, Req, Res, E>
where
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    type Response = Res;
    type Error = E;
    type Future = ResponseFuture<S, S::Future, Req, Res, E>;

    /// Always ready: requests gather while the service inside is not, which their batch waits for.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        ResponseFuture::new(self.inner.clone(), request)
    }
}

impl<S, Req, Res, E> Clone for Batched<S, Req, Res, E> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<S, Req, Res, E> fmt::Debug for Batched<S, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batched").field("origin", &self.inner.rules.origin).finish_non_exhaustive()
    }
}
