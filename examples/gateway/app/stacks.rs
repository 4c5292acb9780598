//! The layers before each backend, outermost first.

use std::time::Duration;

use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, Probes, Ramp, Trip};
use buttress_core::{Backoff, Jitter};
use buttress_http::{HttpClient, ResponseBody, StatusClassifier};
use buttress_postgres::{Postgres, Query, Rows, SqlStateClassifier};
use buttress_redis::{Command, KindClassifier, Redis, Value};
use buttress_retry::RetryLayer;
use buttress_timeout::TimeoutLayer;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tower::{ServiceBuilder, util::BoxCloneSyncService};

pub(super) type Reads = BoxCloneSyncService<Query, Rows, buttress_postgres::Error>;
pub(super) type Writes = BoxCloneSyncService<Query, Rows, buttress_postgres::Error>;
pub(super) type Commands = BoxCloneSyncService<Command, Value, buttress_redis::Error>;
pub(super) type Upstream =
    BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody>, buttress_http::Error>;

/// Comes back soon: a gateway would rather ask once a second than stay away for long.
fn breaker(name: &str) -> buttress_circuit_breaker::Builder {
    let open_for =
        Backoff::exponential(Duration::from_millis(250), Duration::from_secs(1)).unwrap_or_default();
    CircuitBreakerLayer::builder(name)
        .trip(Trip::default().with_consecutive(5).unwrap_or_default())
        .open_for(open_for.with_jitter(Jitter::Equal))
        .probes(Probes::try_new(2, Duration::from_secs(1)).unwrap_or_default())
        .ramp(Ramp::over(Duration::from_millis(500)).unwrap_or_default())
        .slow_call(Duration::from_millis(500))
}

/// Waits little, since somebody is waiting: what a few milliseconds do not mend is the breaker's business.
fn retry(name: &str) -> RetryLayer {
    let backoff =
        Backoff::exponential(Duration::from_millis(10), Duration::from_millis(100)).unwrap_or_default();
    RetryLayer::new(name).backoff(backoff)
}

/// Reads are retried, writes are not; both are one circuit, and share the pool.
pub(super) fn database(postgres: Postgres) -> (Reads, Writes, Breaker) {
    let breaker = breaker("users-db").classify(SqlStateClassifier).build();
    let handle = breaker.breaker();
    let attempt = ServiceBuilder::new()
        .layer(breaker)
        .layer(TimeoutLayer::new(Duration::from_millis(800)).named("users-db attempt"))
        .service(postgres);
    let reads = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(2)).named("users-db reads"))
        .layer(retry("users-db reads").classify(SqlStateClassifier))
        .service(attempt.clone());
    (BoxCloneSyncService::new(reads), BoxCloneSyncService::new(attempt), handle)
}

pub(super) fn redis(redis: Redis) -> (Commands, Breaker) {
    let breaker = breaker("users-cache").classify(KindClassifier).build();
    let handle = breaker.breaker();
    (BoxCloneSyncService::new(ServiceBuilder::new().layer(breaker).service(redis)), handle)
}

/// Only asks with GET, which may be repeated.
pub(super) fn upstream(client: HttpClient<Full<Bytes>>) -> (Upstream, Breaker) {
    let breaker = breaker("profiles").classify(StatusClassifier).build();
    let handle = breaker.breaker();
    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(Duration::from_secs(2)).named("profiles total"))
        .layer(retry("profiles").classify(StatusClassifier))
        .layer(breaker)
        .layer(TimeoutLayer::new(Duration::from_millis(800)).named("profiles attempt"))
        .service(client);
    (BoxCloneSyncService::new(stack), handle)
}
