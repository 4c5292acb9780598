//! A day of calls in virtual time: after the first hours memory stays as it is.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use buttress_bulkhead::{BulkheadLayer, Limit};
use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::BoxError;
use buttress_rate_limit::{Rate, RateLimitLayer};
use buttress_retry::RetryLayer;
use buttress_telemetry::{
    Convention, Describe, Ended, Operation, Registry, Side, Slow, Snapshot, TelemetryLayer,
};
use buttress_testkit::kept_bytes;
use buttress_timeout::TimeoutLayer;
use tokio::time::{advance, sleep};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// In each hour of the day.
const CALLS: u64 = 90_000;
/// One each, so that the calls of an hour take an hour.
const PAUSE: Duration = Duration::from_millis(40);
/// In the first hours whatever is bounded fills up: operations, slow calls, names.
const WARM_UP: usize = 6;
/// What all later hours together may keep, in bytes: the last of the operations' rare ends, each when it is first seen. A
/// byte kept for each call would be 35 times as much.
const SLACK: i64 = 48 << 10;

#[derive(Clone, Copy)]
struct Request {
    /// More than the bound of operations.
    operation: u64,
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Well,
    Slowly,
    Badly,
    /// Its caller does not wait for it.
    Dropped,
}

impl Request {
    fn new(n: u64) -> Self {
        let end = match n % CALLS {
            // Now and then an outage of two minutes.
            30_000..33_000 => End::Badly,
            n if n % 900 == 1 => End::Slowly,
            n if n % 50 == 2 => End::Badly,
            n if n % 100 == 3 => End::Dropped,
            _ => End::Well,
        };
        Self { operation: n % 101, end }
    }
}

/// Operations by number, more than are told apart.
#[derive(Clone, Copy)]
struct ByNumber;

impl Convention for ByNumber {
    fn metric(&self) -> &'static str {
        "test.duration"
    }

    fn side(&self) -> Side {
        Side::Internal
    }
}

impl Describe<Request, u64, BoxError> for ByNumber {
    fn operation<'a>(&'a self, request: &'a Request) -> Operation<'a> {
        Operation::new().named("operation", request.operation as i64)
    }

    fn end(result: &Result<u64, BoxError>) -> Ended<'_> {
        match result {
            // As many statuses as there are operations.
            Ok(status) => Ended::new().with_status("status", *status as i64),
            Err(_) => Ended::new().with_error("failure"),
        }
    }
}

async fn backend(request: Request) -> Result<u64, BoxError> {
    match request.end {
        End::Well => {}
        End::Slowly | End::Dropped => sleep(Duration::from_secs(2)).await,
        End::Badly => return Err("it fails".into()),
    }
    Ok(request.operation)
}

async fn call<S: Service<Request, Error = BoxError>>(service: &mut S, request: Request) -> bool {
    let mut call = pin!(service.ready().await.unwrap().call(request));
    if request.end == End::Dropped {
        return poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_ready();
    }
    call.await.is_ok()
}

#[test]
fn a_day_of_calls_leaves_memory_as_it_is() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let _entered = runtime.enter();
    let registry = Registry::new();
    let slow = Slow::After(Duration::from_secs(1));
    let telemetry =
        TelemetryLayer::builder("day", &registry).convention(ByNumber).slow(slow).build().unwrap();
    let limit = RateLimitLayer::new("day", Rate::per_second(10_000));
    let retry = RetryLayer::new("day");
    let breaker = CircuitBreakerLayer::builder("day").build();
    let timeout = TimeoutLayer::new(Duration::from_secs(5)).name("day");
    let bulkhead = BulkheadLayer::new("day", Limit::fixed(10).unwrap());
    registry
        .stack("day")
        .layer(&telemetry)
        .layer(&limit.limiter())
        .layer(&retry.retrier())
        .layer(&breaker.breaker())
        .layer(&timeout)
        .layer(&bulkhead.limiter())
        .register()
        .unwrap();
    let mut service = ServiceBuilder::new()
        .layer(telemetry)
        .layer(limit)
        .layer(retry)
        .layer(breaker)
        .layer(timeout)
        .layer(bulkhead)
        .service(service_fn(backend));

    let mut succeeded = 0;
    let mut earlier: Option<Snapshot> = None;
    let mut hour = async |hour: u64| {
        for n in hour * CALLS..(hour + 1) * CALLS {
            succeeded += u64::from(call(&mut service, Request::new(n)).await);
            advance(PAUSE).await;
            // Layers of some customers come and go.
            if n % 500 == 0 {
                let name = format!("customer {:03}", n / 500 % 40);
                let layer = BulkheadLayer::new(&name, Limit::fixed(3).unwrap());
                registry.stack(&name).layer(&layer.limiter()).register().unwrap();
                let seen = TelemetryLayer::builder(&name, &registry).convention(ByNumber).build().unwrap();
                let mut passing = ServiceBuilder::new().layer(seen).layer(layer).service(service_fn(backend));
                call(&mut passing, Request { operation: n % 3, end: End::Well }).await;
            }
            // Somebody looks every other minute, and scrapes each hour: it is most of what this test takes.
            if n % (CALLS / 30) == 0 {
                let snapshot = registry.snapshot();
                if let Some(earlier) = &earlier {
                    let since = snapshot.since(earlier).performance_stats();
                    assert!(since.layers.len() <= 6, "{since:?}");
                }
                earlier = Some(snapshot);
                _ = registry.slow_calls(10);
                #[cfg(feature = "prometheus")]
                assert!(n % CALLS > 0 || registry.prometheus().contains("buttress_bulkhead_limit"));
            }
        }
    };
    let kept: Vec<i64> = (0..24).map(|n| kept_bytes(|| runtime.block_on(hour(n)))).collect();
    let late: i64 = kept[WARM_UP..].iter().sum();
    assert!(late <= SLACK, "{late} bytes after the first {WARM_UP} hours; in each hour: {kept:?}");
    let snapshot = registry.snapshot();
    let day = &snapshot.calls[0];
    assert_eq!((day.total.count(), day.in_flight), (CALLS * 24, 0));
    assert!(day.total.cancelled > 0 && registry.slow_calls_total() > 1000);
    assert!(day.operations.len() <= 66, "{}", day.operations.len());
    // It was no idle day: outages, and some calls that failed or were dropped, but most went well.
    assert!((CALLS * 24 * 9 / 10..CALLS * 24).contains(&succeeded), "{succeeded}");
}
