use std::{
    fmt,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{Classify, Decision, Rejectable};
use tower_service::Service;

use crate::{
    Cache, Follower, ResponseFuture,
    inner::{Brought, Inner},
    lead::Lead,
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
    #[inline(always)]
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// When the key function does. That harms this call alone.
    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let key = (self.key)(&request);
        let cache = &self.cache.inner;
        let Some(key) = key else {
            return ResponseFuture::pass(past(cache, &self.inner), request);
        };
        if let Some(value) = cache.fresh(&key) {
            return ResponseFuture::hit(value);
        }
        // Each future is written here, where it is polled, by what is inlined: else the way of a hit would copy it.
        match find(cache, &key) {
            Way::Stale(value) => ResponseFuture::hit(value),
            Way::Refresh(value, lead) => {
                let begun = Begun(lead, self.inner.clone(), request);
                match self.refresh.refresh(&key, begun, self.classify.clone()) {
                    None => {
                        count(&cache.counters.stale);
                        cache.note_stale(&key, LOADED_ANEW);
                        ResponseFuture::hit(value)
                    }
                    Some(Begun(lead, service, request)) => {
                        ResponseFuture::lead(lead, key, service, request, self.classify.clone(), true)
                    }
                }
            }
            Way::Lead(lead) => {
                ResponseFuture::lead(lead, key, self.inner.clone(), request, self.classify.clone(), false)
            }
            Way::Follow(follower) => ResponseFuture::follow(
                cache,
                key,
                follower,
                self.inner.clone(),
                request,
                self.classify.clone(),
            ),
        }
    }
}

const LOADED_ANEW: &str = "it is loaded anew";

/// What there is for a key without a fresh value.
pub(crate) enum Way<K: Hash + Eq, V> {
    /// An old value, which somebody loads anew already, or nobody for now.
    Stale(V),
    /// An old value, and the duty to load it anew.
    Refresh(V, Lead<K, V>),
    Lead(Lead<K, V>),
    Follow(Follower<K, Brought<V>>),
}

#[inline(never)]
pub(crate) fn find<K, V>(cache: &Arc<Inner<K, V>>, key: &K) -> Way<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    if let Some((value, due)) = cache.while_revalidating(key) {
        if due && let Some(post) = cache.flights.try_post(key) {
            return Way::Refresh(value, Lead::new(cache.clone(), Some(post)));
        }
        count(&cache.counters.stale);
        cache.note_stale(key, if due { LOADED_ANEW } else { "it was loaded anew in vain a moment ago" });
        return Way::Stale(value);
    }
    cache.counters.miss();
    match cache.flights.join_post(key) {
        Ok(post) => Way::Lead(Lead::new(cache.clone(), Some(post))),
        Err(follower) => {
            count(&cache.counters.coalesced);
            Decision::note(cache.origin, "joined", || "another call loads the same".into());
            Way::Follow(follower)
        }
    }
}

#[inline(never)]
fn past<K, V, S: Clone>(cache: &Inner<K, V>, service: &S) -> S {
    count(&cache.counters.passed);
    service.clone()
}

impl<S, K, V, F, C, R> fmt::Debug for Cached<S, K, V, F, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("cache", &self.cache).finish_non_exhaustive()
    }
}
