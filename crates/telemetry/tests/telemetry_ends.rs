//! Every call is counted once and as what became of it, whatever the code of others does at its beginning and its end.

use std::{
    future::{Future, pending, poll_fn, ready},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    task::{Context, Poll, Waker},
};

use buttress_core::{Outcome, Rejected};
use buttress_telemetry::{
    Convention, Describe, Ended, Operation, OperationSnapshot, Registry, Side, TelemetryLayer,
};
use tower::{Layer, Service, ServiceExt, service_fn};

fn total(registry: &Registry) -> OperationSnapshot {
    registry.snapshot().calls.remove(0).total
}

/// Tells calls apart by what the caller says, and errors by what they say.
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

impl Describe<String, (), String> for ByWord {
    fn operation<'a>(&'a self, request: &'a String) -> Operation<'a> {
        Operation::new().named("word", &**request)
    }

    fn end(result: &Result<(), String>) -> Ended<'_> {
        match result {
            Ok(()) => Ended::new(),
            Err(error) if error == "panic" => panic!("on purpose"),
            Err(error) => Ended::new().with_error(error),
        }
    }
}

fn failure(_: &Result<(), String>) -> Outcome {
    Outcome::Failure
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_end_panics_has_panicked() {
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("end panics", &registry).convention(ByWord).classify(failure).build();
    let layer = layer.unwrap();
    let service = layer.layer(service_fn(|_| ready(Err::<(), _>("panic".to_owned()))));
    assert!(tokio::spawn(service.oneshot("a".into())).await.unwrap_err().is_panic());
    let total = total(&registry);
    assert_eq!((total.panicked, total.cancelled), (1, 0));

    let panics = |_: &Result<(), Rejected>| -> Outcome { panic!("on purpose") };
    let layer = TelemetryLayer::builder("classifier panics", &registry).classify(panics).build().unwrap();
    let service = layer.layer(service_fn(|()| ready(Ok::<_, Rejected>(()))));
    assert!(tokio::spawn(service.oneshot(())).await.unwrap_err().is_panic());
    let snapshot = registry.snapshot();
    let calls = snapshot.calls("classifier panics").unwrap();
    assert_eq!((calls.total.panicked, calls.total.cancelled, calls.in_flight), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_counted_once_though_it_is_polled_after_its_end() {
    let registry = Registry::new();
    let layer = TelemetryLayer::new("polled again", &registry).unwrap();
    let mut service = layer.layer(service_fn(|hang: bool| async move {
        if hang {
            pending::<()>().await;
        }
        Ok::<_, Rejected>(())
    }));
    let mut hanging = Box::pin(service.call(true));
    assert!(hanging.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    {
        let mut call = pin!(service.call(false));
        let mut poll = || call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready();
        assert!(poll());
        assert!(catch_unwind(AssertUnwindSafe(&mut poll)).is_err());
    }
    // One that says again that it is ready.
    let mut service = layer.layer(service_fn(|()| poll_fn(|_| Poll::Ready(Ok::<_, Rejected>(())))));
    {
        let mut call = pin!(service.call(()));
        for _ in 0..2 {
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        }
    }
    let calls = registry.snapshot().calls.remove(0);
    assert_eq!((calls.total.success, calls.total.panicked, calls.in_flight), (2, 0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_kind_of_error_that_is_too_long_is_not_kept() {
    let registry = Registry::new();
    let layer = TelemetryLayer::builder("long", &registry).convention(ByWord).classify(failure);
    let layer = layer.build().unwrap();
    let service = layer.layer(service_fn(|word: String| ready(Err::<(), _>(word.repeat(1000)))));
    for word in ["a", "b", "c"] {
        _ = service.clone().map_request(move |()| word.to_owned()).oneshot(()).await;
    }
    let total = total(&registry);
    assert_eq!(total.failure, 3);
    assert_eq!(total.errors.iter().map(|error| &*error.kind).collect::<Vec<_>>(), ["_OTHER"]);
}

#[cfg(feature = "opentelemetry")]
#[test]
fn a_call_whose_span_panics_is_not_in_flight() {
    use tracing_subscriber::{layer::Context, prelude::*, registry};

    struct Panics;
    impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Panics {
        fn on_new_span(&self, _: &tracing::span::Attributes<'_>, _: &tracing::Id, _: Context<'_, S>) {
            panic!("on purpose")
        }
    }
    let seen = Registry::new();
    let layer = TelemetryLayer::new("span panics", &seen).unwrap();
    let mut service = layer.layer(service_fn(|()| ready(Ok::<_, Rejected>(()))));
    tracing::subscriber::with_default(registry().with(Panics), || {
        assert!(catch_unwind(AssertUnwindSafe(|| drop(service.call(())))).is_err());
    });
    assert_eq!(seen.snapshot().calls[0].in_flight, 0);
}
