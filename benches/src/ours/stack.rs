//! A client's whole stack, in the order that the guide of `buttress` gives. None of the limits is reached, and no call finds
//! its answer in the cache.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use buttress_bulkhead::{BulkheadLayer, Limit as BulkheadLimit};
use buttress_cache::Cache;
use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::BoxError;
use buttress_rate_limit::{Limit, Rate, RateLimitLayer};
use buttress_retry::RetryLayer;
use buttress_telemetry::{Registry, TelemetryLayer};
use buttress_timeout::TimeoutLayer;
use tower::{Service, ServiceBuilder};

use super::{FOR_EVER, LIMIT, UNREACHED};
use crate::{
    backend::HEALTHY,
    body::{Body, shared},
};

/// Answers that the cache has room for. It is full when it is measured: each new one drives an old one out.
const ROOM: u64 = 1_000;

pub(crate) fn answers() -> Cache<u64, u64> {
    Cache::builder("stack").max_weight(ROOM).build()
}

/// Telemetry, cache, timeout, rate limit, retry with its budget, circuit breaker, bulkhead: each as it is by default.
pub(crate) fn seven(answers: &Cache<u64, u64>) -> Box<dyn Body> {
    let stack = ServiceBuilder::new()
        .layer(watch())
        .layer(answers.layer(|request: &u64| Some(*request)))
        .service(bounded());
    shared(Numbered::new(stack))
}

/// The same without the cache.
#[cfg(feature = "peers")]
pub(crate) fn without_cache()
-> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + Sync {
    ServiceBuilder::new().layer(watch()).service(bounded())
}

fn watch() -> TelemetryLayer {
    TelemetryLayer::new("stack", &Registry::new()).expect("the registry is empty")
}

fn bounded() -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + Sync {
    let rate = Limit::gcra(Rate::per_second(UNREACHED), UNREACHED).expect("the burst is valid");
    ServiceBuilder::new()
        .layer(TimeoutLayer::new(FOR_EVER).name("stack"))
        .layer(RateLimitLayer::new("stack", rate))
        .layer(RetryLayer::new("stack"))
        .layer(CircuitBreakerLayer::new("stack"))
        .layer(BulkheadLayer::new("stack", BulkheadLimit::fixed(LIMIT).expect("the limit is valid")))
        .service(HEALTHY)
}

/// Gives each of its clones requests of its own, so that no two calls of a row ask for the same.
struct Numbered<S> {
    inner: S,
    clones: Arc<AtomicU64>,
    mine: u64,
}

impl<S> Numbered<S> {
    fn new(inner: S) -> Self {
        Self { inner, clones: Arc::new(AtomicU64::new(1)), mine: 0 }
    }
}

impl<S: Clone> Clone for Numbered<S> {
    fn clone(&self) -> Self {
        let mine = self.clones.fetch_add(1, Relaxed) << 48;
        Self { inner: self.inner.clone(), clones: self.clones.clone(), mine }
    }
}

impl<S: Service<u64>> Service<u64> for Numbered<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    // Else it would copy the future once more, which is no part of the stack's cost.
    #[inline(always)]
    fn call(&mut self, request: u64) -> S::Future {
        self.inner.call(self.mine | request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::runtime;

    #[test]
    fn no_call_finds_its_answer_in_the_cache() {
        let runtime = runtime().unwrap();
        let answers = answers();
        let mut body = seven(&answers);
        let mut twin = body.fork().unwrap();
        for _ in 0..10 {
            body.run(&runtime, 500);
            twin.run(&runtime, 500);
        }
        let stats = answers.stats();
        assert_eq!((stats.hits, stats.misses, stats.loads), (0, 10_000, 10_000));
        assert!(stats.entries <= ROOM, "{stats:?}");
        assert_eq!(stats.entries + stats.evicted, 10_000, "{stats:?}");
    }
}
