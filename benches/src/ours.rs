//! Our hot paths: the rows of which `cargo xtask ci instructions` counts the instructions. They are built without any peer,
//! so that counting is cheap; the groups show the same rows beside their peers.

pub(crate) mod stack;

use std::{future::ready, sync::Arc, time::Duration};

use buttress_balance::{Balance, Endpoint};
use buttress_batch::{BatchLayer, Batched};
use buttress_bulkhead::{Adaptive, BulkheadLayer, Limit as Concurrency};
use buttress_cache::Cache;
use buttress_circuit_breaker::{CircuitBreakerLayer, Trip, Window};
use buttress_core::{Backoff, BoxError, Rejectable};
use buttress_hedge::{CloneRequest, HedgeLayer};
use buttress_rate_limit::{Limit, Rate, RateLimitLayer};
use buttress_retry::RetryLayer;
use buttress_telemetry::{Registry, TelemetryLayer};
use buttress_timeout::TimeoutLayer;
use tokio::runtime::Runtime;
use tower::{Layer, Service, service_fn};

use crate::{
    backend::{Always, Backend, Broken, Fails, Failure, HEALTHY},
    body::{Body, shared},
    callers::{Answers, CALLERS, Callers, answer},
    row::{Expected, Row},
    verdict::{Refusal, Verdict},
};

/// Longer than any measurement.
pub(crate) const FOR_EVER: Duration = Duration::from_secs(3_600);
/// A rate that no measurement reaches, a second.
pub(crate) const UNREACHED: u32 = 1_000_000_000;
/// Calls in flight that no measurement reaches.
pub(crate) const LIMIT: u32 = 1_000;
pub(crate) const ENDPOINTS: usize = 3;
/// Of a breaker: so many calls, of which this share may fail.
pub(crate) const WINDOW: usize = 100;
pub(crate) const THRESHOLD: f32 = 0.5;
pub(crate) const FEW_KEYS: u32 = 10_000;

const SERVED: Expected = Expected::All(Verdict::Served);

pub(crate) fn rows() -> Vec<Row> {
    let row = |group, name, build| Row::new(group, name, SERVED, build);
    vec![
        bare(),
        row("breaker", "buttress count closed", |_| by_count(HEALTHY)),
        row("breaker", "buttress time slow closed", |_| by_time(HEALTHY)),
        Row::new("breaker", "buttress open", Expected::All(Verdict::Refused), |runtime| {
            opened(runtime, by_count(Backend::<Always, Failure>::new()))
        }),
        row("timeout", "buttress ready", |_| {
            shared(TimeoutLayer::new(FOR_EVER).name("ready").layer(HEALTHY))
        }),
        row("retry", "buttress budget ok", |_| shared(RetryLayer::new("ok").layer(HEALTHY))),
        row("hedge", "buttress in time", |_| shared(HedgeLayer::new("in time", CloneRequest).layer(HEALTHY))),
        row("rate-limit", "buttress gcra", |_| {
            let limit = Limit::gcra(Rate::per_second(UNREACHED), UNREACHED);
            limited(limit.expect("the burst is valid"))
        }),
        row("rate-limit", "buttress counter", |_| limited(Rate::per_second(UNREACHED).into())),
        row("rate-limit", "buttress keyed 10k", limited_by_key::<FEW_KEYS>).filled_with(FEW_KEYS),
        row("bulkhead", "buttress fixed", |_| shared(BulkheadLayer::new("fixed", fixed()).layer(HEALTHY))),
        row("bulkhead", "buttress adaptive", |_| {
            let limit = Concurrency::adaptive(Adaptive::aimd());
            shared(BulkheadLayer::new("adaptive", limit).layer(HEALTHY))
        }),
        row("cache", "buttress hit one key", |_| {
            let cache: Cache<u64, Arc<u64>> = Cache::builder("hits").max_weight(ROOM).ttl(FOR_EVER).build();
            let key = |_: &u64| Some(7);
            let backend = service_fn(|request| ready(Ok::<_, BoxError>(Arc::new(request))));
            shared(cache.layer(key).layer(backend))
        }),
        row("batch", "buttress no-op 64", |_| Box::new(Callers { service: batched(), callers: CALLERS })),
        row("balance", "buttress", |_| {
            let endpoints = (0..ENDPOINTS).map(|number| (number, Endpoint::new(HEALTHY)));
            shared(Balance::builder("bench").build(endpoints))
        }),
        row("telemetry", "buttress histogram", |_| {
            let layer = TelemetryLayer::new("bench", &Registry::new()).expect("the registry is empty");
            shared(layer.layer(HEALTHY))
        }),
        row("stack", "buttress seven", |_| stack::seven(&stack::answers())),
    ]
}

/// The backend without any layer: what the harness itself takes.
pub(crate) fn bare() -> Row {
    Row::new("physical", "bare", SERVED, |_| shared(HEALTHY))
}

/// Those of one group.
#[cfg(feature = "peers")]
pub(crate) fn rows_of(group: &str) -> Vec<Row> {
    rows().into_iter().filter(|row| row.group == group).collect()
}

/// Of a cache: more than a measurement fills.
pub(crate) const ROOM: u64 = 200_000;

/// The breaker of that body after its backend has failed often enough to open it.
pub(crate) fn opened(runtime: &Runtime, mut body: Box<dyn Body>) -> Box<dyn Body> {
    body.run(runtime, 2 * WINDOW as u64);
    body
}

/// The defaults, but for how long it stays open: half of the last 100 calls.
pub(crate) fn by_count<F, E>(inner: Backend<F, E>) -> Box<dyn Body>
where
    F: Fails,
    E: From<Broken> + Rejectable + Refusal + 'static,
{
    shared(CircuitBreakerLayer::builder("count").open_for(Backoff::constant(FOR_EVER)).build().layer(inner))
}

/// A window of time that also looks for slow calls, and so reads the clock before and after each.
fn by_time<F: Fails>(inner: Backend<F>) -> Box<dyn Body> {
    let trip = Window::time(Duration::from_secs(10))
        .and_then(|window| Trip::failure_rate(THRESHOLD.into(), window)?.with_slow_rate(THRESHOLD.into()))
        .expect("the window and the rates are valid");
    shared(CircuitBreakerLayer::builder("time").trip(trip).build().layer(inner))
}

pub(crate) fn limited(limit: Limit) -> Box<dyn Body> {
    shared(RateLimitLayer::new("direct", limit).layer(HEALTHY))
}

/// The key of a request, of so many: another one each time, and none near the last, as clients come.
pub(crate) fn key(request: u64, keys: u32) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mixed = request.wrapping_mul(ODD);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(ODD);
    ((mixed >> 32) * u64::from(keys)) >> 32
}

/// All keys are there when it is measured, and have units out for hours: none is forgotten meanwhile.
pub(crate) fn limited_by_key<const KEYS: u32>(_: &Runtime) -> Box<dyn Body> {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    let rate = Rate::try_new(UNREACHED, YEAR).expect("the rate is valid");
    let layer = RateLimitLayer::builder("keyed", Limit::gcra(rate, UNREACHED).expect("the burst is valid"))
        .keyed(|request: &u64| key(*request, KEYS))
        .capacity(KEYS as usize)
        .build();
    let limiter = layer.limiter();
    for key in 0..u64::from(KEYS) {
        limiter.try_acquire(&key, UNREACHED / 1_000).expect("it is the first of that key");
    }
    // A few find no place of their own in a table that is full.
    assert!(limiter.active_keys() >= KEYS as usize / 100 * 99, "{} keys", limiter.active_keys());
    shared(layer.layer(HEALTHY))
}

pub(crate) fn fixed() -> Concurrency {
    Concurrency::fixed(LIMIT).expect("the limit is valid")
}

pub(crate) fn batched() -> Batched<
    impl Service<Vec<u64>, Response = Answers, Error = Failure, Future: Send> + Clone + Send + 'static,
    u64,
    u64,
    Failure,
> {
    BatchLayer::new("no-op").layer(service_fn(answer))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn keys_are_walked_far_and_wide() {
        let walked: Vec<u64> = (0..100_000).map(|request| key(request, FEW_KEYS)).collect();
        assert!(walked.iter().all(|key| *key < u64::from(FEW_KEYS)));
        assert!(walked.iter().collect::<HashSet<_>>().len() > 9_900, "ten times as many calls as keys");
        let near = walked.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) < 100).count();
        assert!(near < 4_000, "one in fifty is near by chance, not {near} in 100,000");
    }

    #[cfg(feature = "peers")]
    #[test]
    fn every_hot_path_stands_in_the_table_too() {
        let table: HashSet<String> = crate::groups::rows().iter().map(Row::id).collect();
        for row in rows() {
            assert!(table.contains(&row.id()), "{}", row.id());
        }
    }
}
