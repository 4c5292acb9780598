//! What is explained of stacks of real layers: each rule where it speaks and at its boundary, the page, and any stack at all.
#![cfg(all(feature = "system", feature = "hedge"))]

mod any;
mod limits;
mod load;
mod order;
mod page;
mod repeating;
mod waits;

use std::time::Duration;

use buttress::{
    batch::{Batch, BatchLayer},
    bulkhead::{BulkheadLayer, Limit, Limiter, Queue},
    cache::Cache,
    circuit_breaker::{Breaker, CircuitBreakerLayer, Trip, Window},
    core::{Backoff, BoxError, Observe},
    explain::{Explanation, Repeats, Severity, Stack},
    http::{Connections, HttpClient},
    postgres::{Postgres, PostgresConfig},
    rate_limit::{Rate, RateLimitLayer, RateLimiter},
    retry::{Budget, Retrier, RetryLayer},
    telemetry::{Registry, Slow, TelemetryLayer},
    timeout::TimeoutLayer,
};

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Its layers, outermost first. It says what it repeats, so that nothing is asked about that.
fn stack(layers: &[&dyn Observe]) -> Stack {
    let stack = layers.iter().fold(Stack::new("stock"), |stack, layer| stack.layer(*layer));
    stack.repeats(Repeats::Safe)
}

/// All findings.
fn found(stack: Stack) -> Vec<(Severity, String)> {
    let explanation = Explanation::of([stack]);
    explanation.findings().iter().map(|finding| (finding.severity, finding.text.clone())).collect()
}

/// The findings of which the text has that in it.
fn about(what: &str, stack: Stack) -> Vec<(Severity, String)> {
    found(stack).into_iter().filter(|(_, text)| text.contains(what)).collect()
}

fn texts(found: &[(Severity, String)]) -> Vec<(Severity, &str)> {
    found.iter().map(|(severity, text)| (*severity, text.as_str())).collect()
}

fn total(limit: Duration) -> TimeoutLayer {
    TimeoutLayer::new(limit).name("total")
}

fn attempt(limit: Duration) -> TimeoutLayer {
    TimeoutLayer::new(limit).name("attempt")
}

/// Waits 1 s, 2 s, 4 s, ... up to a minute.
fn retry(retries: u32) -> Retrier {
    let backoff = Backoff::exponential(SEC, 60 * SEC).unwrap();
    RetryLayer::new("again").retries(retries).backoff(backoff).retrier()
}

fn breaker(failures: u32) -> Breaker {
    CircuitBreakerLayer::builder("guard").trip(Trip::consecutive(failures).unwrap()).build().breaker()
}

fn bulkhead(limit: u32) -> Limiter {
    BulkheadLayer::new("room", Limit::fixed(limit).unwrap()).limiter()
}

fn queue(limit: u32, wait: Duration) -> Limiter {
    let queue = Queue::try_new(100, wait).unwrap();
    BulkheadLayer::builder("room", Limit::fixed(limit).unwrap()).queue(queue).build().limiter()
}

fn rate(units: u32) -> RateLimiter {
    RateLimitLayer::new("pace", Rate::per_second(units)).limiter()
}

fn cache() -> Cache<u64, u64> {
    Cache::new("kept")
}

fn batch(linger: Duration) -> Batch<u64, u64, BoxError> {
    BatchLayer::new("gather").linger(linger).max_size(64).function(async |numbers: Vec<u64>| {
        Ok::<_, BoxError>(numbers.into_iter().map(Ok::<_, BoxError>).collect())
    })
}

/// 20 connections and 30 more.
fn postgres() -> Postgres {
    let config = PostgresConfig::from_url("postgres://app@localhost/shop").unwrap();
    Postgres::new(config.with_name("shop").with_pool_size(20).with_max_overflow(30)).unwrap()
}

fn http(http2: bool) -> Connections {
    let client: HttpClient<String> =
        HttpClient::builder().name("web").max_connections_per_host(10).http2(http2).build().unwrap();
    client.connections()
}

fn telemetry(registry: &Registry, slow: Duration) -> TelemetryLayer {
    TelemetryLayer::builder("seen", registry).slow(Slow::After(slow)).build().unwrap()
}

fn slow_rate(slow_call: Duration) -> Breaker {
    let trip = Trip::failure_rate(0.5, Window::calls(100).unwrap()).unwrap().with_slow_rate(0.5).unwrap();
    CircuitBreakerLayer::builder("guard").trip(trip).slow_call(slow_call).build().breaker()
}

fn unlimited(name: &str, retries: u32) -> Retrier {
    RetryLayer::new(name).retries(retries).budget(Budget::unlimited()).retrier()
}
