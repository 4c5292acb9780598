//! Which calls are slow, and that nobody waits for the answer.

use std::{
    future::{Future, ready},
    pin::pin,
    task::{Context, Waker},
    time::Duration,
};

use buttress_core::{BoxError, Rejected};
use buttress_telemetry::{Convention, Describe, Ended, Operation, Registry, Side, Slow, TelemetryLayer};
use buttress_testkit::allocations;
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};

#[test]
fn every_slow_call_is_counted_however_many_end_at_once() {
    let registry = Registry::new();
    let layer =
        TelemetryLayer::builder("at once", &registry).slow(Slow::After(Duration::ZERO)).build().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let service = layer.layer(service_fn(|()| ready(Ok::<_, Rejected>(()))));
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..10_000 {
                        service.clone().oneshot(()).await.unwrap();
                    }
                });
            });
        }
    });
    assert_eq!(registry.slow_calls_total(), 80_000);
}

#[tokio::test(start_paused = true)]
async fn of_calls_that_take_no_time_not_every_one_is_slow() {
    let registry = Registry::new();
    for (name, factor) in [("least", 1.0), ("usual", 3.0), ("endless", f64::MAX)] {
        let layer = TelemetryLayer::builder(name, &registry).slow(Slow::OverP99(factor)).build().unwrap();
        let service = layer.layer(service_fn(async |nanos: u64| {
            advance(Duration::from_nanos(nanos)).await;
            Ok::<_, BoxError>(())
        }));
        for _ in 0..2000 {
            service.clone().oneshot(0).await.unwrap();
        }
        for _ in 0..10 {
            service.clone().oneshot(50).await.unwrap();
        }
        assert_eq!(registry.slow_calls_total(), 0, "{name}");
    }
}

/// Sixteen ways to end, of sixty-four operations.
#[derive(Debug, Clone, Copy)]
struct Many;

impl Convention for Many {
    fn metric(&self) -> &'static str {
        "test.duration"
    }

    fn side(&self) -> Side {
        Side::Internal
    }
}

impl Describe<u64, u64, Rejected> for Many {
    fn operation<'a>(&'a self, request: &'a u64) -> Operation<'a> {
        Operation::new().named("number", (request % 64) as i64)
    }

    fn end(result: &Result<u64, Rejected>) -> Ended<'_> {
        Ended::new().with_status("status", (result.as_ref().unwrap() / 64 % 16) as i64)
    }
}

#[test]
fn no_call_adds_up_all_series_to_know_what_is_slow() {
    let registry = Registry::new();
    let layer =
        TelemetryLayer::builder("many", &registry).convention(Many).slow(Slow::OverP99(3.0)).build().unwrap();
    let mut service = layer.layer(service_fn(|n: u64| ready(Ok::<_, Rejected>(n))));
    let mut call = |n: u64| {
        let call = pin!(service.call(n));
        assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_ready());
    };
    // Every operation ends in every way; then every way is known.
    (0..4096).for_each(&mut call);
    let counted = allocations(|| (0..1024).for_each(|n| call(n / 1024)));
    assert!(counted.count <= 8, "{counted:?}: one for each series were a thousand");
}
