use std::{
    fmt,
    task::{Context, Poll},
};

use buttress_cache::{Background, Cached};
use buttress_core::Rejectable;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::{
    Query, QueryCache, QueryCacheFuture, QueryKey, Rows,
    cache::{judge::Judge, writing::Writing},
};

/// A [`Service`] of [`Query`] behind a [`QueryCache`], which makes it as a [`Layer`].
#[derive(Clone)]
pub struct CachedQueries<S> {
    cache: QueryCache,
    service: S,
    reads: Reads<S>,
}

type Reads<S> = Cached<Keyless<S>, QueryKey, Rows, fn(&Keyed) -> Option<QueryKey>, Judge, Background>;

impl<S: Clone> Layer<S> for QueryCache {
    type Service = CachedQueries<S>;

    fn layer(&self, service: S) -> CachedQueries<S> {
        let key: fn(&Keyed) -> Option<QueryKey> = |keyed| keyed.key.clone();
        let reads = self.answers.layer(key).classify(Judge).layer(Keyless(service.clone()));
        CachedQueries { cache: self.clone(), service, reads }
    }
}

impl<S> CachedQueries<S>
where
    S: Service<Query, Response = Rows> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Rejectable + Send + 'static,
{
    /// Runs one query, through the cache if it is marked so: what [`Service::call`] does, for whoever has no use for layers.
    ///
    /// # Errors
    /// Those of the service inside. [`LoadFailed`](buttress_core::Reason::LoadFailed) for a caller who waited for another's
    /// load of the same key, in which the database failed.
    ///
    /// # Cancellation
    /// As that of [`QueryCacheFuture`].
    pub async fn query(&self, query: Query) -> Result<Rows, S::Error> {
        self.clone().call(query).await
    }
}

impl<S> CachedQueries<S> {
    /// The cache.
    #[must_use]
    pub fn cache(&self) -> &QueryCache {
        &self.cache
    }
}

impl<S> Service<Query> for CachedQueries<S>
where
    S: Service<Query, Response = Rows> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Rejectable + Send + 'static,
{
    type Response = Rows;
    type Error = S::Error;
    type Future = QueryCacheFuture<S>;

    /// Always ready: what the cache answers does not wait for the service inside. All else waits for it in its future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    /// # Panics
    /// When writing a value as a Postgres type does. That harms this call alone.
    fn call(&mut self, query: Query) -> Self::Future {
        if let Some(tables) = query.uses.writes.clone() {
            let writing = Writing::new(self.cache.clone(), tables);
            return QueryCacheFuture::write(self.service.clone(), query, writing);
        }
        let tables = query.uses.cached.as_deref();
        let key = tables
            .and_then(|tables| QueryKey::new(&query, self.cache.shared.versions.of(tables, Instant::now)));
        QueryCacheFuture::read(self.reads.call(Keyed { query, key }))
    }
}

impl<S> fmt::Debug for CachedQueries<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedQueries").field("cache", &self.cache).finish_non_exhaustive()
    }
}

/// A query with the key that it had when it was called.
pub(crate) struct Keyed {
    query: Query,
    key: Option<QueryKey>,
}

/// The service inside, which knows nothing of keys.
#[derive(Clone)]
pub(crate) struct Keyless<S>(S);

impl<S: Service<Query>> Service<Keyed> for Keyless<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, keyed: Keyed) -> S::Future {
        self.0.call(keyed.query)
    }
}
