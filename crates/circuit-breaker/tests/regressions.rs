//! Defects that circuit breakers have had, each held off by a test. Those that are the machine's alone stand beside it.

use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use buttress_circuit_breaker::{CircuitBreakerLayer, Probes, State, Trip, Window};
use buttress_core::{Backoff, Deadline, Metric, Observe, Origin, Outcome, Reason, Rejectable, Value};
use buttress_testkit::probe::{Backend, BoxError};
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn fail(breaker: &buttress_circuit_breaker::Breaker, times: u32) {
    for _ in 0..times {
        breaker.acquire().unwrap().finish(Outcome::Failure);
    }
}

#[tokio::test(start_paused = true)]
async fn regression_01_ten_thousand_successes_do_not_hold_it_closed() {
    let trip = Trip::failure_rate(0.5, Window::calls(10).unwrap()).unwrap();
    let breaker = CircuitBreakerLayer::builder("slides").trip(trip).build().breaker();
    for _ in 0..10_000 {
        breaker.acquire().unwrap().finish(Outcome::Success);
    }
    fail(&breaker, 4);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn regression_02_probes_far_apart_close_it_whatever_the_window() {
    let breaker = CircuitBreakerLayer::builder("wedge")
        .trip(Trip::failure_rate(0.5, Window::time(100 * MS).unwrap()).unwrap().with_min_calls(1).unwrap())
        .open_for(Backoff::constant(50 * MS))
        .probes(Probes::try_new(2, SECOND).unwrap())
        .build()
        .breaker();
    fail(&breaker, 1);
    for expected in [State::HalfOpen, State::Recovering, State::Closed] {
        advance(150 * MS).await;
        breaker.acquire().unwrap().finish(Outcome::Success);
        assert_eq!(breaker.state(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn regression_03_a_straggler_does_not_close_it() {
    let breaker = CircuitBreakerLayer::builder("straggler")
        .trip(Trip::consecutive(2).unwrap())
        .open_for(Backoff::constant(SECOND))
        .probes(Probes::try_new(1, 10 * SECOND).unwrap())
        .build()
        .breaker();
    let straggler = breaker.acquire().unwrap();
    fail(&breaker, 2);
    advance(SECOND).await;
    let probe = breaker.acquire().unwrap();
    straggler.finish(Outcome::Success);
    assert_eq!(breaker.state(), State::HalfOpen);
    probe.finish(Outcome::Failure);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn regression_04_a_backend_that_hangs_behind_an_outer_timeout_opens_it() {
    let backend = Backend::new();
    backend.hold();
    let layer =
        CircuitBreakerLayer::builder("hangs").slow_call(100 * MS).trip(Trip::consecutive(3).unwrap()).build();
    let mut service = layer.layer(backend.service::<BoxError>());
    for _ in 0..200 {
        let _timed_out = timeout(100 * MS, service.ready().await.unwrap().call(1)).await;
    }
    assert_eq!(backend.calls(), 3);
    assert_eq!(layer.breaker().state(), State::Open);

    // A caller who leaves early says nothing; nor does anybody where it is turned off.
    let patient =
        CircuitBreakerLayer::builder("early").slow_call(100 * MS).trip(Trip::consecutive(3).unwrap());
    let silent = patient.clone().ignore_dropped().build();
    let patient = patient.build();
    for (layer, wait) in [(patient, 99 * MS), (silent, SECOND)] {
        let mut service = layer.layer(backend.service::<BoxError>());
        for _ in 0..10 {
            let _timed_out = timeout(wait, service.ready().await.unwrap().call(1)).await;
        }
        assert_eq!(layer.breaker().state(), State::Closed);
    }
}

#[tokio::test(start_paused = true)]
async fn regression_05_a_window_of_time_forgets_at_the_same_cost() {
    let trip =
        Trip::failure_rate(0.5, Window::time(10 * SECOND).unwrap()).unwrap().with_min_calls(100).unwrap();
    let breaker = CircuitBreakerLayer::builder("time").trip(trip).build().breaker();
    for _ in 0..100_000 {
        breaker.acquire().unwrap().finish(Outcome::Success);
    }
    assert_eq!(breaker.snapshot().calls, 100_000);
    advance(13 * SECOND).await;
    assert_eq!(breaker.snapshot().calls, 0);
    fail(&breaker, 99);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.state(), State::Open);
}

#[tokio::test(start_paused = true)]
async fn regression_06_reset_forgets_and_the_gauge_follows() {
    let breaker =
        CircuitBreakerLayer::builder("reset").trip(Trip::consecutive(100).unwrap()).build().breaker();
    let gauge = || {
        let mut states = Vec::new();
        breaker.observe(&mut |Metric { name, value, .. }| {
            if name == "state" {
                states.push(value);
            }
        });
        states
    };
    fail(&breaker, 99);
    breaker.reset();
    assert_eq!(breaker.snapshot().consecutive_failures, 0);
    fail(&breaker, 99);
    assert_eq!(gauge(), [Value::Gauge(0.0)]);
    fail(&breaker, 1);
    assert_eq!(gauge(), [Value::Gauge(1.0)]);
    breaker.force_closed();
    assert_eq!(gauge(), [Value::Gauge(4.0)]);
    breaker.reset();
    assert_eq!(gauge(), [Value::Gauge(0.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn regression_08_exactly_as_many_probes_as_permitted() {
    for permitted in [1, 3] {
        let calls = Arc::new(AtomicU64::new(0));
        let inner = {
            let calls = Arc::clone(&calls);
            service_fn(move |(): ()| {
                calls.fetch_add(1, Relaxed);
                async {
                    sleep(200 * MS).await;
                    Ok::<_, BoxError>(())
                }
            })
        };
        let layer = CircuitBreakerLayer::builder("probes")
            .open_for(Backoff::constant(Duration::ZERO))
            .probes(Probes::try_new(permitted, 60 * SECOND).unwrap())
            .build();
        layer.breaker().isolate(Duration::ZERO);
        let service = layer.layer(inner);
        let tasks: Vec<_> = (0..64).map(|_| tokio::spawn(service.clone().oneshot(()))).collect();
        let mut refused = 0;
        for task in tasks {
            refused += u32::from(task.await.unwrap().is_err_and(|error| error.rejected().is_some()));
        }
        assert_eq!((calls.load(Relaxed), refused), (u64::from(permitted), 64 - permitted));
        assert_eq!(layer.breaker().state(), State::Recovering);
    }
}

#[test]
fn regression_09_many_threads_lose_nothing_and_do_not_stand_in_line() {
    // Far more calls than processors can hold in turn; buckets of time change meanwhile.
    const EACH: u64 = 200_000;
    let trip = Trip::failure_rate(1.0, Window::time(60 * SECOND).unwrap()).unwrap();
    let breaker = CircuitBreakerLayer::builder("threads").trip(trip).build().breaker();
    let start = Arc::new(Barrier::new(9));
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let (breaker, start) = (breaker.clone(), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                for i in 0..EACH {
                    let outcome = if i % 100 == 99 { Outcome::Failure } else { Outcome::Success };
                    breaker.acquire().unwrap().finish(outcome);
                }
            })
        })
        .collect();
    start.wait();
    let began = Instant::now();
    for thread in threads {
        thread.join().unwrap();
    }
    // Threads that hand a lock to each other took 24 microseconds a call.
    assert!(began.elapsed() < Duration::from_micros(5 * 8 * EACH), "{:?}", began.elapsed());
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.calls, snapshot.failed), (8 * EACH, 8 * EACH / 100));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_counts_unless_it_was_the_impatient_callers() {
    let layer = || CircuitBreakerLayer::builder("deadline").trip(Trip::consecutive(1).unwrap()).per_service();
    // As an adapter does: it notices the deadline itself.
    let hangs = service_fn(async |(): ()| {
        sleep(Deadline::current().unwrap().remaining()).await;
        Err::<(), _>(BoxError::from(
            Origin::new("adapter", "deadline").reject(Reason::DeadlineExceeded).after_sending(),
        ))
    });
    for (outside, inside, expected) in [
        // A limit inside of the breaker: the backend was slow.
        (10 * SECOND, 100 * MS, State::Open),
        // The caller's own limit: he was impatient, unless he waited for `slow_call`.
        (100 * MS, 10 * SECOND, State::Closed),
        (SECOND, 10 * SECOND, State::Open),
    ] {
        let inner = service_fn(move |(): ()| {
            let call = hangs.oneshot(());
            async move { Deadline::after(inside).scope(call).await }
        });
        let mut service = layer().layer(inner);
        let breaker = service.breaker();
        assert!(Deadline::after(outside).scope(service.call(())).await.is_err());
        assert_eq!(breaker.state(), expected, "{outside:?} outside, {inside:?} inside");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_ignored_is_not_counted_however_long_it_took() {
    let breaker =
        CircuitBreakerLayer::builder("ignored").trip(Trip::consecutive(1).unwrap()).build().breaker();
    let slow_not_found = breaker.acquire().unwrap();
    advance(10 * SECOND).await;
    slow_not_found.finish(Outcome::Ignored);
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_cannot_be_made_ready_opens_it() {
    #[derive(Clone)]
    struct Unready;
    impl Service<u32> for Unready {
        type Response = u32;
        type Error = BoxError;
        type Future = std::future::Ready<Result<u32, BoxError>>;
        fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("connection refused".into()))
        }
        fn call(&mut self, _: u32) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let layer = CircuitBreakerLayer::builder("unready").trip(Trip::consecutive(3).unwrap()).build();
    let mut service = layer.layer(Unready);
    for _ in 0..3 {
        assert_eq!(service.ready().await.err().unwrap().to_string(), "connection refused");
    }
    assert!(service.ready().await.unwrap().call(1).await.unwrap_err().rejected().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_how_long() {
    let layer = CircuitBreakerLayer::builder("hint")
        .trip(Trip::consecutive(1).unwrap())
        .open_for(Backoff::constant(5 * SECOND))
        .probes(Probes::try_new(1, 10 * SECOND).unwrap())
        .build();
    let backend = Backend::new();
    let mut service = layer.layer(backend.fail_next(1).service::<BoxError>());
    assert!(service.ready().await.unwrap().call(1).await.is_err());
    advance(2 * SECOND).await;
    let rejected = service.ready().await.unwrap().call(1).await.unwrap_err().rejected().cloned().unwrap();
    assert_eq!(rejected.retry_after(), Some(3 * SECOND));
    advance(3 * SECOND).await;
    let _probe = layer.breaker().acquire().unwrap();
    let rejected = service.ready().await.unwrap().call(1).await.unwrap_err().rejected().cloned().unwrap();
    assert_eq!(rejected.retry_after(), Some(SECOND), "half-open, nobody knows how long the probe will take");
}
