//! What becomes of a call that ends in an unusual way, and of the tables, where the world is hostile.

use std::{
    future::{Ready, pending, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::{
    BoxError, Decision, Metric, Observe, Origin, Outcome, Reason, Rejected, SettingValue, Value,
};
use buttress_telemetry::{
    Convention, Describe, Ended, Operation, OperationSnapshot, RegisterError, Registry, Side, Slow,
    TelemetryLayer,
};
use tokio::time::{advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

fn total(registry: &Registry) -> OperationSnapshot {
    registry.snapshot().calls.remove(0).total
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Decides something when it is dropped.
struct GivesUp(Origin);

impl Drop for GivesUp {
    fn drop(&mut self) {
        Decision::note(self.0, "gave_up", || "it was dropped".into());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_about_a_dropped_call_is_kept_also_from_inside_of_two_layers() {
    let registry = Registry::new();
    let layer = |name| TelemetryLayer::builder(name, &registry).slow(Slow::After(SECOND)).build().unwrap();
    let (outer, inner) = (layer("outer"), layer("inner"));
    let origin = Origin::new("retry", "dropped");
    let service = inner.layer(service_fn(move |(): ()| {
        Decision::note(origin, "retried", || "in `call`".into());
        async move {
            let _gives_up = GivesUp(origin);
            pending::<Result<(), Rejected>>().await
        }
    }));
    let mut service = outer.layer(service);
    let mut call = Box::pin(service.call(()));
    assert!(poll(call.as_mut()).is_pending());
    advance(2 * SECOND).await;
    drop(call);
    let slow = registry.slow_calls(9);
    assert_eq!(slow.len(), 2);
    for call in slow {
        assert_eq!((call.end, call.seconds), ("cancelled", 2.0));
        let what: Vec<_> = call.decisions.iter().map(|decision| decision.what).collect();
        assert_eq!(what, ["retried", "gave_up"], "{}", call.name);
    }
    assert_eq!(registry.snapshot().calls.iter().map(|calls| calls.total.cancelled).sum::<u64>(), 2);
}

/// Its drop panics, if told so.
struct Explodes(Arc<AtomicBool>);

impl Drop for Explodes {
    fn drop(&mut self) {
        assert!(!self.0.load(SeqCst), "on purpose");
    }
}

#[tokio::test(start_paused = true)]
async fn a_future_whose_drop_panics_is_counted_once() {
    let registry = Registry::new();
    let layer = TelemetryLayer::new("explodes", &registry).unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let mut service = layer.layer(service_fn(|(): ()| {
        let explodes = Explodes(Arc::clone(&armed));
        async move {
            let _explodes = explodes;
            pending::<Result<(), Rejected>>().await
        }
    }));
    let mut call = Box::pin(service.call(()));
    assert!(poll(call.as_mut()).is_pending());
    armed.store(true, SeqCst);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(call))).is_err());
    let calls = &registry.snapshot().calls[0];
    assert_eq!((calls.total.panicked, calls.total.count(), calls.in_flight), (1, 1, 0));
}

/// In real time, which has passed when it panics. The next call begins with none.
#[tokio::test]
async fn a_call_that_panics_before_it_has_a_future_keeps_what_was_decided() {
    let registry = Registry::new();
    let layer =
        TelemetryLayer::builder("panics", &registry).slow(Slow::After(Duration::ZERO)).build().unwrap();
    let origin = Origin::new("retry", "panics");
    let mut service = layer.layer(service_fn(move |fails: bool| {
        if fails {
            Decision::note(origin, "retried", || "before".into());
            panic!("on purpose");
        }
        async move {
            sleep(Duration::from_millis(1)).await;
            Ok::<_, Rejected>(())
        }
    }));
    assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(true)))).is_err());
    assert_eq!(total(&registry).panicked, 1);
    let [call] = &*registry.latest_slow_calls(1) else { panic!("it took more than no time") };
    assert_eq!((call.end, call.decisions[0].what), ("panicked", "retried"));
    service.ready().await.unwrap().call(false).await.unwrap();
    let [call] = &*registry.latest_slow_calls(1) else { panic!("it took a millisecond") };
    assert!(call.decisions.is_empty(), "{call:?}");
}

#[tokio::test(start_paused = true)]
async fn refusals_do_not_make_every_call_slow() {
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("refusals", &registry).slow(Slow::OverP99(2.0)).build().unwrap();
    let origin = Origin::new("circuit-breaker", "refusals");
    let service = layer.layer(service_fn(async |millis: u64| {
        if millis == 0 {
            return Err(origin.reject(Reason::CircuitOpen));
        }
        sleep(Duration::from_millis(millis)).await;
        Ok(())
    }));
    for _ in 0..200 {
        service.clone().oneshot(10).await.unwrap();
    }
    for _ in 0..50_000 {
        service.clone().oneshot(0).await.unwrap_err();
    }
    service.clone().oneshot(15).await.unwrap();
    assert_eq!(registry.slow_calls_total(), 0);
    service.clone().oneshot(30).await.unwrap();
    assert_eq!(registry.slow_calls_total(), 1);
}

#[test]
fn a_factor_that_makes_every_call_slow_is_a_mistake() {
    let registry = Registry::new();
    for factor in [0.0, 0.99, -1.0, f64::NAN, f64::INFINITY] {
        let slow = Slow::OverP99(factor);
        let error = TelemetryLayer::builder("factor", &registry).slow(slow).build().unwrap_err();
        assert_eq!(error, RegisterError::InvalidFactor { name: "factor" });
        assert!(error.to_string().starts_with("telemetry `factor`: "), "{error}");
    }
    assert!(registry.snapshot().calls.is_empty(), "the name is free still");
    TelemetryLayer::builder("factor", &registry).slow(Slow::OverP99(1.0)).build().unwrap();
}

/// Ends as the caller says, in whatever words.
#[derive(Debug, Clone, Copy)]
struct Verbose;

impl Convention for Verbose {
    fn metric(&self) -> &'static str {
        "test.duration"
    }

    fn side(&self) -> Side {
        Side::Internal
    }
}

impl Describe<String, String, Rejected> for Verbose {
    fn operation<'a>(&'a self, request: &'a String) -> Operation<'a> {
        Operation::new().named("word", &**request).with("a", 1).with("b", "").with("c", 2)
    }

    fn end(result: &Result<String, Rejected>) -> Ended<'_> {
        let word = result.as_ref().unwrap();
        Ended::new().with_status("status", &**word).with_error(word)
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_words_for_operations_and_errors_are_bounded_in_number_and_length() {
    let registry = Registry::new();
    let failed = |_: &Result<String, Rejected>| Outcome::Failure;
    let layer = TelemetryLayer::builder("hostile", &registry)
        .convention(Verbose)
        .classify(failed)
        .max_operations(4)
        .build()
        .unwrap();
    let service = layer.layer(service_fn(|word: String| ready(Ok::<_, Rejected>(word))));
    let mut calls = 0;
    for n in 0..300 {
        for word in [format!("w{n}"), format!("{n}{}", "\u{1f980}".repeat(10_000)), "same\0\n\"".into()] {
            service.clone().oneshot(word).await.unwrap();
            calls += 1;
        }
    }
    let snapshot = registry.snapshot();
    let of = &snapshot.calls[0];
    assert_eq!(of.total.failure, calls);
    assert_eq!(of.total.errors.iter().map(|error| error.count).sum::<u64>(), calls, "each has a kind");
    assert_eq!(of.operations.len(), 5, "four, and the rest");
    let texts = of
        .operations
        .iter()
        .flat_map(|operation| operation.errors.iter().map(|error| &error.kind).chain([&operation.operation]));
    assert!(texts.clone().all(|text| text.len() <= 200));
    assert!(of.operations.iter().all(|operation| operation.errors.len() <= 17));
    assert_eq!(of.operations.iter().find(|of| of.operation == "same\0\n\"").unwrap().failure, 300);
}

#[tokio::test(start_paused = true)]
async fn it_observes_itself() {
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("observed", &registry)
        .slow(Slow::OverP99(3.0))
        .max_operations(0)
        .build()
        .unwrap();
    let service = layer
        .layer(service_fn(|good: bool| async move { if good { Ok(()) } else { Err(BoxError::from("no")) } }));
    service.clone().oneshot(true).await.unwrap();
    service.clone().oneshot(true).await.unwrap();
    service.clone().oneshot(false).await.unwrap_err();
    let hanging = service.clone().call(true);
    let mut seen = Vec::new();
    let weak = layer.downgrade();
    weak.upgrade().unwrap().observe(&mut |metric| seen.push(metric));
    assert!(seen.contains(&Metric::new("in_flight", Value::Gauge(1.0))), "{seen:?}");
    for (end, count) in [("success", 2), ("failure", 1), ("cancelled", 0)] {
        assert!(
            seen.contains(&Metric::new("calls", Value::Counter(count)).with_label("end", end)),
            "{seen:?}"
        );
    }
    let mut settings = Vec::new();
    layer.settings(&mut |setting| settings.push((setting.name, setting.value)));
    assert_eq!(
        settings,
        [("slow_over_p99", SettingValue::Ratio(3.0)), ("max_operations", SettingValue::Count(1))]
    );
    drop((layer, service, hanging));
    assert!(weak.upgrade().is_none());
}

/// Neither `Clone`, nor `Send`, nor `'static`.
struct Borrows<'a>(&'a std::cell::Cell<u32>);

impl Service<&str> for Borrows<'_> {
    type Response = usize;
    type Error = Rejected;
    type Future = Ready<Result<usize, Rejected>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: &str) -> Self::Future {
        self.0.set(self.0.get() + 1);
        ready(Ok(request.len()))
    }
}

#[tokio::test]
async fn it_asks_nothing_of_the_service() {
    let (registry, calls) = (Registry::new(), std::cell::Cell::new(0));
    let layer = TelemetryLayer::new("borrows", &registry).unwrap();
    let mut service = layer.layer(Borrows(&calls));
    let request = String::from("four");
    assert_eq!(service.ready().await.unwrap().call(&request).await, Ok(4));
    assert_eq!((calls.get(), total(&registry).success), (1, 1));
}
