use std::{
    fmt,
    hash::Hash,
    task::{Context, Poll},
};

use buttress_core::{Classify, Rejectable};
use tower_service::Service;

use crate::{
    Cache, Joined, ResponseFuture,
    future::coalesced,
    refresh::{Begun, Refresh},
    stats::count,
};

/// A service behind a cache: made by [`CacheLayer`](crate::CacheLayer).
#[derive(Clone)]
pub struct Cached<S, K, V, F, C, R> {
    /// Never polled ready itself: a hit does not ask it, and a miss drives a clone of its own.
    inner: S,
    cache: Cache<K, V>,
    key: F,
    classify: C,
    refresh: R,
}

impl<S, K, V, F, C, R> Cached<S, K, V, F, C, R> {
    pub(crate) const fn new(inner: S, cache: Cache<K, V>, key: F, classify: C, refresh: R) -> Self {
        Self { inner, cache, key, classify, refresh }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> Cache<K, V> {
        self.cache.clone()
    }
}

impl<S, Req, K, V, F, C, R> Service<Req> for Cached<S, K, V, F, C, R>
where
    S: Service<Req, Response = V> + Clone,
    S::Error: Rejectable,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Fn(&Req) -> Option<K>,
    C: Classify<V, S::Error> + Clone,
    R: Refresh<S, Req, K, V, C>,
{
    type Response = V;
    type Error = S::Error;
    type Future = ResponseFuture<S, S::Future, Req, K, V, C>;

    /// Always ready: a hit never waits for the service inside. A miss waits for it in its future.
    #[inline]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// When the key function does. That harms this call alone.
    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let key = (self.key)(&request);
        if let Some(key) = &key
            && let Some(value) = self.cache.inner.fresh(key)
        {
            return ResponseFuture::hit(value);
        }
        self.call_without_a_hit(key, request)
    }
}

impl<S, K, V, F, C, R> Cached<S, K, V, F, C, R>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    C: Clone,
{
    #[inline(never)]
    fn call_without_a_hit<Req, Fut>(
        &self,
        key: Option<K>,
        request: Req,
    ) -> ResponseFuture<S, Fut, Req, K, V, C>
    where
        S: Clone,
        R: Refresh<S, Req, K, V, C>,
    {
        let inner = &self.cache.inner;
        let Some(key) = key else {
            count(&inner.counters.passed);
            return ResponseFuture::pass(self.inner.clone(), request);
        };
        if let Some((value, due)) = inner.while_revalidating(&key) {
            if due && let Some(leader) = inner.flights.try_lead(&key) {
                let begun = Begun(leader, self.inner.clone(), request);
                if let Some(Begun(leader, service, request)) =
                    self.refresh.refresh(inner, &key, begun, self.classify.clone())
                {
                    return ResponseFuture::lead(
                        inner.clone(),
                        key,
                        leader,
                        service,
                        request,
                        self.classify.clone(),
                    );
                }
            }
            count(&inner.counters.stale);
            return ResponseFuture::hit(value);
        }
        count(&inner.counters.misses);
        let (service, classify) = (self.inner.clone(), self.classify.clone());
        match inner.flights.join(&key) {
            Joined::Lead(leader) => {
                ResponseFuture::lead(inner.clone(), key, leader, service, request, classify)
            }
            Joined::Follow(follower) => {
                coalesced(inner);
                ResponseFuture::follow(inner.clone(), key, follower, service, request, classify)
            }
        }
    }
}

impl<S, K, V, F, C, R> fmt::Debug for Cached<S, K, V, F, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("cache", &self.cache).finish_non_exhaustive()
    }
}
