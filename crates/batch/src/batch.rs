use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{Metric, Observe, Origin, Rejectable, Setting, WeakObserve};
use tower_service::Service;

use crate::{ResponseFuture, Stats, inner::Inner, shared::Shared};

/// A batcher, and the handle to it, for code that is no service: to call it, to close it and to read its figures. Clones are
/// the same batcher.
///
/// It is made by [`BatchLayer::function`](crate::BatchLayer::function) or [`Batched::batch`](crate::Batched::batch).
pub struct Batch<Req, Res, E>(Arc<dyn AnyInner<Req, Res, E>>);

impl<Req, Res, E> Batch<Req, Res, E>
where
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    pub(crate) fn new<S>(inner: Arc<Inner<S, Req, Res, E>>) -> Self
    where
        S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
        S::Future: Send,
    {
        Self(inner)
    }

    /// Sends a request, with others or alone, and brings its result. It costs one allocation more than a call of the service.
    ///
    /// Dropped before the request was taken into a batch, it is not sent.
    ///
    /// # Errors
    /// The request's own; or a rejection: [`Overloaded`](buttress_core::Reason::Overloaded) and
    /// [`Closed`](buttress_core::Reason::Closed), not sent; [`BatchFailed`](buttress_core::Reason::BatchFailed) and
    /// [`DeadlineExceeded`](buttress_core::Reason::DeadlineExceeded), which say whether it may have been sent.
    ///
    /// # Panics
    /// Outside of a tokio runtime; and what the weigher, or the service inside for a lone caller, panics with.
    pub async fn call(&self, request: Req) -> Result<Res, E> {
        self.0.clone().call(request).await
    }

    /// Refuses new requests from now on, with [`Closed`](buttress_core::Reason::Closed), and waits until those that came before
    /// have their results. What lingers goes at once.
    ///
    /// Dropped, it stays closed.
    pub async fn close(&self) {
        self.0.shared().close().await;
    }

    /// The figures since it was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.shared().stats()
    }
}

/// `batches`, `items`, `splits`, `failed`, `abandoned`, `waiting`, `mean_size`, and the rejections.
impl<Req, Res, E> Observe for Batch<Req, Res, E>
where
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    fn origin(&self) -> Origin {
        self.0.shared().origin()
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        self.stats().observe(visit);
        self.origin().observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.0.settings(visit);
    }
}

impl<Req, Res, E> Clone for Batch<Req, Res, E> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Req, Res, E> fmt::Debug for Batch<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("origin", &self.0.shared().origin()).finish_non_exhaustive()
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A [`Inner`] whose service is not named.
trait AnyInner<Req, Res, E>: Send + Sync {
    fn call(self: Arc<Self>, request: Req) -> Boxed<Result<Res, E>>;

    fn shared(&self) -> &Shared<Req, Res, E>;

    fn settings(&self, visit: &mut dyn FnMut(Setting));
}

impl<S, Req, Res, E> AnyInner<Req, Res, E> for Inner<S, Req, Res, E>
where
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    fn call(self: Arc<Self>, request: Req) -> Boxed<Result<Res, E>> {
        Box::pin(ResponseFuture::new(self, request))
    }

    fn shared(&self) -> &Shared<Req, Res, E> {
        &self.shared
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.rules.settings(visit);
    }
}

/// A function as a service.
#[derive(Clone)]
pub(crate) struct Function<F>(pub(crate) F);

impl<F, T, Req, Res, E> Service<Vec<Req>> for Function<F>
where
    F: Fn(Vec<Req>) -> T,
    T: Future<Output = Result<Vec<Result<Res, E>>, E>>,
{
    type Response = Vec<Result<Res, E>>;
    type Error = E;
    type Future = T;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, requests: Vec<Req>) -> T {
        (self.0)(requests)
    }
}
