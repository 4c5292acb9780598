use std::{
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{ByError, Classify, Observe, Reason, Rejectable};
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Builder, ByTask, Key, Limiters, Prioritize, Reject, ResponseFuture, service::enter, when_full::WhenFull,
};

/// Puts a bulkhead for each key before a service: made by [`Builder::keyed`]. All services that one layer makes, and their
/// clones, share the bulkheads.
#[derive(Debug, Clone)]
pub struct KeyedLayer<K: Key, F, Q = Reject, P = ByTask, C = ByError> {
    limiters: Limiters<K>,
    key: F,
    when_full: Q,
    prioritize: P,
    classify: C,
}

impl<Q, P, C> Builder<Q, P, C> {
    /// A layer with a bulkhead for each key of the requests, such as the tenant: see [`Limiters`].
    ///
    /// The function is called for each request. Its result should be cheap to make and to clone.
    pub fn keyed<K: Key, F, Req>(self, key: F) -> KeyedLayer<K, F, Q, P, C>
    where
        F: Fn(&Req) -> K,
    {
        let Self { origin, settings, when_full, prioritize, classify } = self;
        KeyedLayer { limiters: Limiters::new(origin, settings), key, when_full, prioritize, classify }
    }
}

impl<K: Key, F, Q, P, C> KeyedLayer<K, F, Q, P, C> {
    /// How many keys can have a bulkhead at the same time; at least one. Default: 1,024. A handle that was taken before is
    /// of other bulkheads.
    #[must_use]
    pub fn capacity(self, most: usize) -> Self {
        Self { limiters: self.limiters.with_capacity(most), ..self }
    }

    /// A key that nobody asks for during so long is forgotten, at the latest after twice that, when a new one comes.
    /// Default: 10 minutes. A handle that was taken before is of other bulkheads.
    #[must_use]
    pub fn idle(self, idle: Duration) -> Self {
        Self { limiters: self.limiters.with_idle(idle), ..self }
    }

    /// The handle of all bulkheads.
    #[must_use]
    pub fn limiters(&self) -> Limiters<K> {
        self.limiters.clone()
    }
}

impl<S, K: Key, F: Clone, Q: Clone, P: Clone, C: Clone> Layer<S> for KeyedLayer<K, F, Q, P, C> {
    type Service = KeyedBulkhead<S, K, F, Q, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedBulkhead {
            inner,
            limiters: self.limiters.clone(),
            key: self.key.clone(),
            when_full: self.when_full.clone(),
            prioritize: self.prioritize.clone(),
            classify: self.classify.clone(),
        }
    }
}

/// A service behind a bulkhead for each key: made by [`KeyedLayer`].
///
/// It is ready when the service inside is: before there is a request, nobody knows whose limit decides.
#[derive(Debug, Clone)]
pub struct KeyedBulkhead<S, K: Key, F, Q = Reject, P = ByTask, C = ByError> {
    inner: S,
    limiters: Limiters<K>,
    key: F,
    when_full: Q,
    prioritize: P,
    classify: C,
}

impl<S, K, F, Q, P, C, Req> Service<Req> for KeyedBulkhead<S, K, F, Q, P, C>
where
    S: Service<Req>,
    S::Error: Rejectable,
    K: Key,
    F: Fn(&Req) -> K,
    Q: WhenFull<S, Req>,
    P: Prioritize<Req>,
    C: Classify<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, Q::Waiting>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let classify = self.classify.clone();
        // Held until the call holds a permit or a place: each keeps the key from being forgotten, so nobody else can make
        // another bulkhead for it meanwhile.
        match self.limiters.entry(&(self.key)(&request)) {
            Some(entry) => {
                let lent = entry.limiter.inner();
                enter(lent, &mut self.inner, request, &self.when_full, &self.prioritize, classify)
            }
            None => ResponseFuture::refused(self.limiters.origin(), Reason::Overloaded, classify),
        }
    }
}
