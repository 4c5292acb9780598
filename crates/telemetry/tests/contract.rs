//! What every layer owes to its caller and to the service inside, and that each call is counted as what became of it.

use std::{
    future::{Ready, pending, ready},
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::{BoxError, Decision, Origin, Outcome, Reason, Rejected};
use buttress_telemetry::{
    Convention, Describe, Ended, Operation, OperationSnapshot, RegisterError, Registry, Side, Slow,
    TelemetryLayer,
};
use buttress_testkit::{
    allocations,
    probe::{self, Backend, PanicAt},
};
use proptest::prelude::*;
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

fn layer(name: &str) -> (Registry, TelemetryLayer) {
    let registry = Registry::new();
    let layer = TelemetryLayer::new(name, &registry).unwrap();
    (registry, layer)
}

fn total(registry: &Registry) -> OperationSnapshot {
    registry.snapshot().calls.remove(0).total
}

#[tokio::test(start_paused = true)]
async fn it_calls_only_what_is_ready() {
    let (_registry, layer) = layer("ready");
    probe::calls_only_ready(layer.clone()).await;
    probe::releases_readiness(layer).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_is_counted_and_is_not_in_flight() {
    let (registry, layer) = layer("dropped");
    probe::cancel_everywhere(
        layer.clone(),
        |_| {},
        |_| assert_eq!(registry.snapshot().calls[0].in_flight, 0),
    )
    .await;
    let total = total(&registry);
    assert!(total.cancelled > 0 && total.success > 0, "{total:?}");
}

#[tokio::test(start_paused = true)]
async fn it_survives_panics_and_counts_them() {
    let (registry, layer) = layer("panics");
    probe::survives_panic(layer.clone()).await;
    for at in [PanicAt::Call, PanicAt::Future] {
        let backend = Backend::new();
        backend.panic_next(at);
        let service = layer.layer(backend.service::<BoxError>());
        let before = total(&registry).panicked;
        let call = tokio::spawn(service.oneshot(1_u32));
        assert!(call.await.unwrap_err().is_panic());
        assert_eq!(total(&registry).panicked, before + 1, "{at:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_end_is_counted_as_what_it_is() {
    let registry = Registry::new();
    let by_word = |result: &Result<&'static str, BoxError>| match result {
        Ok("mine") => Outcome::Ignored,
        Ok("less") => Outcome::Throttled(None),
        Ok(_) => Outcome::Success,
        Err(_) => Outcome::Failure,
    };
    let layer = TelemetryLayer::builder("ends", &registry).classify(by_word).build().unwrap();
    let origin = Origin::new("circuit-breaker", "ends");
    let service = layer.layer(service_fn(move |word: &'static str| async move {
        match word {
            "fail" => Err(BoxError::from("it failed")),
            "refuse" => Err(origin.reject(Reason::CircuitOpen).into()),
            "hang" => pending().await,
            word => Ok(word),
        }
    }));
    for word in ["good", "good", "fail", "refuse", "mine", "less"] {
        _ = service.clone().oneshot(word).await;
    }
    assert!(tokio::time::timeout(Duration::from_secs(1), service.clone().oneshot("hang")).await.is_err());
    let mut hanging = pin!(service.clone().oneshot("hang"));
    assert!(hanging.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let snapshot = registry.snapshot();
    let total = &snapshot.calls[0].total;
    assert_eq!(
        [total.success, total.failure, total.rejected, total.ignored, total.throttled, total.cancelled],
        [2, 1, 1, 1, 1, 1]
    );
    assert_eq!((total.count(), snapshot.calls[0].in_flight), (7, 1));
    assert_eq!(total.errors.iter().map(|error| &*error.kind).collect::<Vec<_>>(), ["circuit_open"]);
    assert_eq!(total.latency.max, Some(1.0), "that was the one that hung");
}

#[tokio::test(start_paused = true)]
async fn latencies_are_those_of_the_clock() {
    let (registry, layer) = layer("latencies");
    let service = layer.layer(service_fn(async |millis: u64| {
        sleep(Duration::from_millis(millis)).await;
        Ok::<_, Rejected>(())
    }));
    for millis in 1..=100 {
        service.clone().oneshot(millis).await.unwrap();
    }
    let latency = total(&registry).latency;
    let within = |quantile: Option<f64>, exact: f64| (quantile.unwrap() / exact - 1.0).abs() < 0.022;
    assert!(
        within(latency.p50, 0.050) && within(latency.p95, 0.095) && within(latency.p99, 0.099),
        "{latency:?}"
    );
    assert!((latency.mean.unwrap() - 0.0505).abs() < 1e-9);
}

#[test]
fn a_call_allocates_nothing() {
    let (_registry, layer) = layer("allocations");
    let mut service = layer.layer(Instantly);
    let mut call = || {
        let mut future = pin!(service.call(1));
        assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    };
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
        (0..2000).for_each(|_| call());
        // Now and then one is so much slower that it is the first of its part of the range, which is made then.
        let fewest = (0..5).map(|_| allocations(|| (0..1000).for_each(|_| call())).count).min();
        assert_eq!(fewest, Some(0));
    });
}

#[derive(Clone)]
struct Instantly;

impl Service<u64> for Instantly {
    type Response = u64;
    type Error = Rejected;
    type Future = Ready<Result<u64, Rejected>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(Ok(request))
    }
}

#[tokio::test(start_paused = true)]
async fn clones_and_all_services_count_together_and_two_layers_do_not_share_a_name() {
    let (registry, layer) = layer("shared");
    let services = [layer.layer(Instantly), layer.clone().layer(Instantly)];
    for service in &services {
        service.clone().oneshot(1).await.unwrap();
    }
    assert_eq!(total(&registry).success, 2);
    let error = TelemetryLayer::new("shared", &registry).unwrap_err();
    assert!(matches!(error, RegisterError::NameTaken { .. }));
    assert!(error.to_string().starts_with("another telemetry is registered as `shared`"), "{error}");

    drop(layer);
    assert_eq!(registry.snapshot().calls.len(), 1, "its services live");
    drop(services);
    assert!(registry.snapshot().calls.is_empty());
    let again = TelemetryLayer::new("shared", &registry).unwrap();
    again.layer(Instantly).oneshot(1).await.unwrap();
    assert_eq!(total(&registry).success, 1, "it counts from its own beginning");
}

#[tokio::test(start_paused = true)]
async fn slow_calls_are_kept_with_what_was_decided() {
    let registry = Registry::new();
    let second = Duration::from_secs(1);
    let layer = TelemetryLayer::builder("slow", &registry).slow(Slow::After(second)).build().unwrap();
    let inner = TelemetryLayer::builder("slow inside", &registry).slow(Slow::After(second)).build().unwrap();
    let origin = Origin::new("retry", "slow");
    let service = inner.layer(service_fn(move |millis: u64| async move {
        sleep(Duration::from_millis(millis)).await;
        Decision::note(origin, "retried", || format!("after {millis} ms"));
        Ok::<_, Rejected>(())
    }));
    let service = layer.layer(service);
    for millis in [1000, 3000, 2000] {
        service.clone().oneshot(millis).await.unwrap();
    }
    let slow = registry.slow_calls(10);
    let of = |name: &str| {
        slow.iter().filter(|call| call.name == name).map(|call| call.seconds).collect::<Vec<_>>()
    };
    assert_eq!((of("slow"), of("slow inside")), (vec![3.0, 2.0], vec![3.0, 2.0]));
    assert_eq!(registry.slow_calls_total(), 4);
    for call in &slow {
        assert_eq!(call.decisions.len(), 1, "the inner layer passes on what it saw: {call:?}");
        let decision = &call.decisions[0];
        assert_eq!((decision.layer, decision.name, decision.what), ("retry", "slow", "retried"));
        assert_eq!(
            (decision.after_seconds, &*decision.why),
            (call.seconds, &*format!("after {} ms", call.seconds * 1e3))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn slow_may_be_relative_to_the_p99() {
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("relative", &registry).slow(Slow::OverP99(3.0)).build().unwrap();
    let service = layer.layer(service_fn(async |millis: u64| {
        sleep(Duration::from_millis(millis)).await;
        Ok::<_, Rejected>(())
    }));
    service.clone().oneshot(60_000).await.unwrap();
    assert_eq!(registry.slow_calls_total(), 0, "of one call there is no p99");
    for _ in 0..2000 {
        service.clone().oneshot(10).await.unwrap();
    }
    service.clone().oneshot(25).await.unwrap();
    assert_eq!(registry.slow_calls_total(), 0);
    service.clone().oneshot(35).await.unwrap();
    assert_eq!(registry.slow_calls_total(), 1);
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

impl Describe<String, u64, Rejected> for ByWord {
    fn operation<'a>(&'a self, request: &'a String) -> Operation<'a> {
        Operation::new().named("word", &**request)
    }

    fn end(result: &Result<u64, Rejected>) -> Ended<'_> {
        Ended::new().with_status("status", *result.as_ref().unwrap() as i64)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn operations_and_ends_are_bounded_and_no_call_is_lost(calls in prop::collection::vec(("[a-z]{0,2}|.{0,3}|x{190,210}", 0..40_u64), 1..400), max in 1..20_usize) {
        let registry = Registry::new();
        let layer = TelemetryLayer::builder("bounded", &registry).convention(ByWord).max_operations(max).build().unwrap();
        let mut service = layer.layer(service_fn(|(_, status): (String, u64)| ready(Ok::<_, Rejected>(status))).map_request(|word: String| {
            let status = word.chars().next().map_or(0, |status| u64::from(u32::from(status)));
            (word, status)
        }));
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            for (word, _) in &calls {
                _ = service.ready().await.unwrap().call(word.clone()).await;
            }
        });
        let snapshot = registry.snapshot();
        let operations = &snapshot.calls[0].operations;
        prop_assert_eq!(operations.iter().map(OperationSnapshot::count).sum::<u64>(), calls.len() as u64);
        // Beside them those without a word, and the rest.
        prop_assert!(operations.len() <= max + 2, "{}", operations.len());
        prop_assert!(operations.iter().all(|operation| operation.operation.len() <= 200));
        for operation in operations.iter().filter(|operation| operation.operation != "_OTHER" && !operation.operation.is_empty()) {
            let exact = calls.iter().filter(|(word, _)| *word == operation.operation).count() as u64;
            prop_assert!(operation.count() <= exact);
        }
    }
}

#[test]
fn counts_of_many_threads_add_up() {
    let registry = Registry::new();
    let layer =
        TelemetryLayer::builder("threads", &registry).convention(ByWord).max_operations(8).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let layer = &layer;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                let service = layer.layer(service_fn(|_: String| ready(Ok::<_, Rejected>(1_u64))));
                runtime.block_on(async {
                    for call in 0..500 {
                        service.clone().oneshot(format!("{}", (thread + call) % 12)).await.unwrap();
                    }
                });
            });
        }
    });
    let snapshot = registry.snapshot();
    assert_eq!((snapshot.calls[0].total.success, snapshot.calls[0].in_flight), (4000, 0));
    assert_eq!(snapshot.calls[0].operations.len(), 9, "eight, and the rest");
}

#[tokio::test(start_paused = true)]
async fn a_difference_of_snapshots_is_what_came_between() {
    let (registry, layer) = layer("since");
    let service = layer.layer(service_fn(async |millis: u64| {
        sleep(Duration::from_millis(millis)).await;
        Ok::<_, Rejected>(())
    }));
    for _ in 0..50 {
        service.clone().oneshot(1000).await.unwrap();
    }
    let earlier = registry.snapshot();
    advance(Duration::from_secs(5)).await;
    service.clone().oneshot(10).await.unwrap();
    let between = registry.snapshot().since(&earlier);
    assert_eq!(between.calls[0].total.success, 1);
    assert!((between.seconds - 5.01).abs() < 0.01, "{}", between.seconds);
    assert!(between.calls[0].total.latency.p99.unwrap() < 0.0103);
}
