//! The layers before each backend, outermost first.

use std::time::Duration;

use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, Probes, Ramp, Trip};
use buttress_core::{Backoff, ByError, Jitter, Observe};
use buttress_http::{HttpClient, ResponseBody, StatusClassifier};
use buttress_postgres::{Postgres, Query, Rows, SqlStateClassifier};
use buttress_redis::{Command, KindClassifier, Redis, Value};
use buttress_retry::RetryLayer;
use buttress_telemetry::{
    HttpClient as HttpConvention, Plain, PostgresConvention, RedisConvention, RegisterError, Registry, Slow,
    TelemetryLayer, TelemetryLayerBuilder,
};
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
pub(super) fn database(
    postgres: Postgres,
    registry: &Registry,
) -> Result<(Reads, Writes, Breaker), RegisterError> {
    let breaker = breaker("users-db").classify(SqlStateClassifier).build();
    let handle = breaker.breaker();
    let per_attempt = TimeoutLayer::new(Duration::from_millis(800)).named("users-db attempt");
    let total = TimeoutLayer::new(Duration::from_secs(2)).named("users-db reads");
    let retry = retry("users-db reads").classify(SqlStateClassifier);
    let users = PostgresConvention::new("users");
    let seen_reads =
        seen(registry, "users-db reads").convention(users.clone()).classify(SqlStateClassifier).build()?;
    let seen_writes =
        seen(registry, "users-db writes").convention(users).classify(SqlStateClassifier).build()?;
    show(
        registry,
        "users-db reads",
        &[&seen_reads, &total, &retry.retrier(), &handle, &per_attempt, &postgres],
    )?;
    show(registry, "users-db writes", &[&seen_writes, &handle, &per_attempt, &postgres])?;

    let attempt = ServiceBuilder::new().layer(breaker).layer(per_attempt).service(postgres);
    let reads = ServiceBuilder::new().layer(seen_reads).layer(total).layer(retry).service(attempt.clone());
    let writes = ServiceBuilder::new().layer(seen_writes).service(attempt);
    Ok((BoxCloneSyncService::new(reads), BoxCloneSyncService::new(writes), handle))
}

pub(super) fn redis(redis: Redis, registry: &Registry) -> Result<(Commands, Breaker), RegisterError> {
    let breaker = breaker("users-cache").classify(KindClassifier).build();
    let handle = breaker.breaker();
    let seen =
        seen(registry, "users-cache").convention(RedisConvention::new(0)).classify(KindClassifier).build()?;
    show(registry, "users-cache", &[&seen, &handle, &redis])?;
    let stack = ServiceBuilder::new().layer(seen).layer(breaker).service(redis);
    Ok((BoxCloneSyncService::new(stack), handle))
}

/// Only asks with GET, which may be repeated.
pub(super) fn upstream(
    client: HttpClient<Full<Bytes>>,
    registry: &Registry,
) -> Result<(Upstream, Breaker), RegisterError> {
    let breaker = breaker("profiles").classify(StatusClassifier).build();
    let handle = breaker.breaker();
    let total = TimeoutLayer::new(Duration::from_secs(2)).named("profiles total");
    let retry = retry("profiles").classify(StatusClassifier);
    let per_attempt = TimeoutLayer::new(Duration::from_millis(800)).named("profiles attempt");
    let seen = seen(registry, "profiles").convention(HttpConvention).classify(StatusClassifier).build()?;
    show(
        registry,
        "profiles",
        &[&seen, &total, &retry.retrier(), &handle, &per_attempt, &client.connections()],
    )?;
    let stack = ServiceBuilder::new()
        .layer(seen)
        .layer(total)
        .layer(retry)
        .layer(breaker)
        .layer(per_attempt)
        .service(client);
    Ok((BoxCloneSyncService::new(stack), handle))
}

/// Latencies, ends and slow calls of a stack, as its caller sees them.
fn seen<'a>(registry: &'a Registry, name: &str) -> TelemetryLayerBuilder<'a, Plain, ByError> {
    TelemetryLayer::builder(name, registry).slow(Slow::After(Duration::from_millis(500)))
}

/// A stack to be seen on the live page, outermost first.
fn show(registry: &Registry, name: &str, layers: &[&dyn Observe]) -> Result<(), RegisterError> {
    layers.iter().fold(registry.stack(name), |stack, layer| stack.layer(*layer)).register()
}
