//! Defects of the field that must not come back, in virtual time.

mod script;

use std::{
    future::ready,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{BoxError, Origin, Outcome, Reason, Rejectable};
use buttress_retry::{Budget, RetryLayer};
use script::{MS, layer};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceExt, service_fn};

/// Requests and backend calls at 50 % failures, 1000 requests a second.
async fn storm(layer: RetryLayer, requests: u32) -> f64 {
    let calls = Arc::new(AtomicUsize::new(0));
    let failing = fastrand::Rng::with_seed(7);
    let inner = {
        let (calls, failing) = (Arc::clone(&calls), Arc::new(Mutex::new(failing)));
        service_fn(move |()| {
            calls.fetch_add(1, Relaxed);
            ready(if failing.lock().unwrap().bool() { Ok(()) } else { Err(io::Error::other("it fails")) })
        })
    };
    let service = layer.layer(inner);
    let mut running = Vec::new();
    for _ in 0..requests {
        running.push(tokio::spawn(service.clone().oneshot(())));
        sleep(MS).await;
    }
    for call in running {
        let _ = call.await.unwrap();
    }
    calls.load(Relaxed) as f64 / f64::from(requests)
}

#[tokio::test(start_paused = true)]
async fn regression_16_a_budget_bounds_the_load_that_retries_add() {
    const REQUESTS: u32 = 20_000;
    let without = storm(layer("storm_without").budget(Budget::unlimited()), REQUESTS).await;
    assert!((1.7..1.8).contains(&without), "1 + 1/2 + 1/4 calls a request, was {without}");

    let start = Instant::now();
    let with = storm(layer("storm_with"), REQUESTS).await;
    let floor = 10.0 * (start.elapsed().as_secs_f64() + 10.0) / f64::from(REQUESTS);
    assert!(with <= 1.2 + floor, "{with} calls a request");
    assert!(with >= 1.19, "it uses what it has, was {with}");
}

#[tokio::test(start_paused = true)]
async fn regression_17_what_failed_is_dropped_before_the_wait() {
    /// A pooled connection, in the response that failed and in the future that made it.
    struct Response(u32, #[expect(dead_code, reason = "held")] Arc<()>);
    let connection = Arc::new(());
    let calls = AtomicUsize::new(0);
    let inner = service_fn(|()| {
        let held = Arc::clone(&connection);
        let status = if calls.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
        async move {
            let _held_by_the_future = Arc::clone(&held);
            Ok::<_, BoxError>(Response(status, held))
        }
    });
    let by_status = |result: &Result<Response, BoxError>| match result {
        Ok(Response(200, _)) => Outcome::Success,
        _ => Outcome::Failure,
    };
    let call = layer("dropped_before_the_wait").classify(by_status).layer(inner).oneshot(());
    let watch = async {
        sleep(50 * MS).await;
        (calls.load(Relaxed), Arc::strong_count(&connection))
    };
    let (response, during_the_wait) = tokio::join!(call, watch);
    assert_eq!(response.unwrap().0, 200);
    assert_eq!(during_the_wait, (1, 1), "nothing but the test holds it");
}

#[tokio::test(start_paused = true)]
async fn regression_20_a_refusal_on_this_side_spends_nothing() {
    let breaker = Origin::new("circuit-breaker", "regression_20");
    // Even where the classifier takes everything for a failure.
    let all = |result: &io::Result<u32>| if result.is_ok() { Outcome::Success } else { Outcome::Failure };
    let layer = layer("regression_20").classify(all);
    let budget = layer.retrier().budget().clone();
    let start = Instant::now();
    let calls = AtomicUsize::new(0);
    let service = layer.layer(service_fn(|()| {
        calls.fetch_add(1, Relaxed);
        ready(Err(breaker.reject(Reason::CircuitOpen).with_retry_after(MS).into()))
    }));
    for _ in 0..500 {
        let error = service.clone().oneshot(()).await.unwrap_err();
        assert_eq!(error.rejected().unwrap().reason(), Reason::CircuitOpen);
    }
    assert_eq!((calls.load(Relaxed), start.elapsed()), (500, Duration::ZERO));
    let floor_and_a_fifth = 100 + 500 / 5;
    assert_eq!(budget.available(Instant::now()), Some(floor_and_a_fifth));
}
