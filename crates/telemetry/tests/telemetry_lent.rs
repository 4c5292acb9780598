//! What is counted for a layer is what its own calls did: neither calls of an earlier layer of its name, nor their figures.

use std::{
    future::{Future, pending, ready},
    task::{Context, Waker},
    time::Duration,
};

use buttress_core::Rejected;
use buttress_telemetry::{
    Convention, Describe, Ended, Operation, OperationSnapshot, Registry, Side, TelemetryLayer,
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};

fn total(registry: &Registry) -> OperationSnapshot {
    registry.snapshot().calls.remove(0).total
}

#[tokio::test(start_paused = true)]
async fn a_call_that_outlives_its_layer_is_not_the_next_ones() {
    let (first, second) = (Registry::new(), Registry::new());
    let make = |registry: &Registry| TelemetryLayer::new("outlived", registry).unwrap();
    let layer = make(&first);
    let mut service = layer.layer(service_fn(|()| pending::<Result<(), Rejected>>()));
    let mut old = Box::pin(service.call(()));
    assert!(old.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop((layer, service));

    let next = make(&second);
    assert_eq!(second.snapshot().calls[0].in_flight, 0, "none of its calls has begun");
    advance(Duration::from_secs(5)).await;
    drop(old);
    assert_eq!(total(&second).count(), 0, "none of its calls has ended");
    assert_eq!(second.slow_calls_total(), 0);
    drop(next);
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_layer_saw_is_no_operation_of_the_next_one() {
    let make = |registry: &Registry| {
        TelemetryLayer::builder("forgotten", registry).convention(ByWord).build().unwrap()
    };
    let first = Registry::new();
    let layer = make(&first);
    layer.layer(service_fn(|_| ready(Ok::<_, Rejected>(())))).oneshot("before".into()).await.unwrap();
    assert_eq!(first.snapshot().calls[0].operations.len(), 1);
    drop(layer);
    let second = Registry::new();
    let _layer = make(&second);
    assert!(second.snapshot().calls[0].operations.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_difference_over_a_layer_that_was_made_anew_counts_from_nothing() {
    let registry = Registry::new();
    let make = async |calls: u64| {
        let layer = TelemetryLayer::new("anew", &registry).unwrap();
        let service = layer.layer(service_fn(|()| ready(Ok::<_, Rejected>(()))));
        for _ in 0..calls {
            service.clone().oneshot(()).await.unwrap();
        }
        layer
    };
    for (before, after) in [(10, 3), (3, 10), (4, 4)] {
        let old = make(before).await;
        let earlier = registry.snapshot();
        drop(old);
        let _new = make(after).await;
        let between = registry.snapshot().since(&earlier).calls.remove(0);
        assert_eq!((between.total.success, between.operations[0].success), (after, after));
        assert_eq!(between.total.latency.count, after);
    }
}

/// Tells calls apart by what the caller says.
#[derive(Debug, Clone, Copy)]
struct ByWord;

impl Convention for ByWord {
    fn metric(&self) -> &'static str {
        "test.duration"
    }

    fn side(&self) -> Side {
        Side::Internal
    }
}

impl Describe<String, (), Rejected> for ByWord {
    fn operation<'a>(&'a self, request: &'a String) -> Operation<'a> {
        Operation::new().named("word", &**request)
    }

    fn end(_: &Result<(), Rejected>) -> Ended<'_> {
        Ended::new()
    }
}
