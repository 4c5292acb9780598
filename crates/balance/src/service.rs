use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{ByError, Classify, Rejectable};
use tower_service::Service;

use crate::{
    Balancer, Builder, LeastLoaded, Members, Policy, ResponseFuture,
    admitted::Admitted,
    pool::{Discovering, Pool},
};

/// A service that sends each call to one of several endpoints.
///
/// See the [crate's documentation](crate). A clone is the same balancer, and costs one reference count. With the last one
/// its discovery ends; [`Members`] and [`Balancer`] do not keep that alive.
pub struct Balance<K, S, P = LeastLoaded, C = ByError> {
    inner: Arc<Inner<K, S, P, C>>,
}

struct Inner<K, S, P, C> {
    pool: Arc<Pool<K, S>>,
    policy: P,
    classify: C,
    /// What is dropped with the balancer.
    discovery: Option<Discovering>,
}

impl Balance<(), ()> {
    /// A balancer of that name, to be configured.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder::new(name)
    }
}

impl<K, S, P, C> Balance<K, S, P, C> {
    pub(crate) fn new(pool: Arc<Pool<K, S>>, policy: P, classify: C, discovery: Option<Discovering>) -> Self {
        Self { inner: Arc::new(Inner { pool, policy, classify, discovery }) }
    }

    /// Its endpoints, to be changed.
    #[must_use]
    pub fn members(&self) -> Members<K, S> {
        Members { pool: Arc::clone(&self.inner.pool) }
    }

    /// The handle: figures, and endpoints to be taken out by hand.
    #[must_use]
    pub fn balancer(&self) -> Balancer<K, S> {
        Balancer::new(self.members())
    }
}

impl<K, S, P, C> Clone for Balance<K, S, P, C> {
    #[inline]
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<K, S, P, C, Req> Service<Req> for Balance<K, S, P, C>
where
    S: Service<Req> + Clone,
    S::Error: Rejectable,
    P: Policy<Req>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<K, S, S::Future, Req, C>;

    /// Always ready: which endpoint a call goes to is chosen in `call`, and waited for in its future.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// When the key function or the clone of an endpoint's service does. That harms this call alone.
    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let Inner { pool, policy, classify, discovery } = &*self.inner;
        let key = policy.key(&request);
        let now = pool.now();
        let Some(member) = pool.pick(key, now) else {
            return ResponseFuture::waiting(
                Arc::clone(pool),
                request,
                key,
                classify.clone(),
                discovery.clone(),
            );
        };
        let admitted = Admitted::new(member, now);
        let service = admitted.member().endpoint.service.clone();
        ResponseFuture::chosen(admitted, service, request, key, pool.settings.origin, classify.clone())
    }
}

impl<K, S, P, C> fmt::Debug for Balance<K, S, P, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = self.inner.pool.settings.origin;
        f.debug_struct("Balance").field("origin", &origin).field("members", &self.members()).finish()
    }
}
