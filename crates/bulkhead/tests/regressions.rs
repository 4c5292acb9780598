//! Defects that bulkheads and adaptive limits have had, each held off by a test.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use buttress_bulkhead::{Adaptive, BulkheadLayer, Limit, Limiter, Queue};
use buttress_core::{Deadline, Origin, Outcome, Reason, Rejectable, Rejected};
use buttress_testkit::probe::{Backend, BoxError};
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

const ALGORITHMS: [fn() -> Adaptive; 3] = [Adaptive::aimd, Adaptive::gradient2, Adaptive::vegas];

fn adaptive(adaptive: Adaptive) -> Limiter {
    BulkheadLayer::new("adaptive", Limit::adaptive(adaptive)).limiter()
}

#[tokio::test(start_paused = true)]
async fn regression_04_calls_that_an_outer_timeout_drops_shrink_an_adaptive_limit() {
    for algorithm in ALGORITHMS {
        let slow_call = algorithm().with_slow_call(100 * MS).unwrap();
        let layer = BulkheadLayer::new("hangs", Limit::adaptive(slow_call));
        let backend = Backend::new();
        backend.hold();
        let round = async |wait: Duration| {
            let mut calls = JoinSet::new();
            for _ in 0..20 {
                let service = layer.layer(backend.service::<BoxError>());
                calls.spawn(timeout(wait, service.oneshot(1)));
            }
            calls.join_all().await;
        };
        // Callers who leave early say nothing.
        for _ in 0..5 {
            round(99 * MS).await;
        }
        assert_eq!(layer.limiter().limit(), 20);
        for _ in 0..30 {
            round(100 * MS).await;
        }
        let limit = layer.limiter().limit();
        assert!(limit < 5, "{limit}: {algorithm:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn regression_14_one_layer_over_three_routes_is_one_limit() {
    let layer = BulkheadLayer::new("routes", Limit::fixed(10).unwrap());
    let backend = Backend::new();
    backend.hold();
    let routes = [(); 3].map(|()| layer.layer(backend.service::<BoxError>()));
    let mut calls = JoinSet::new();
    for route in routes.iter().flat_map(|route| vec![route.clone(); 10]) {
        calls.spawn(route.oneshot(1));
    }
    sleep(MS).await;
    assert_eq!(backend.in_flight(), 10);
    backend.release();
    let refused = calls.join_all().await.into_iter().filter(Result::is_err).count();
    assert_eq!(refused, 20);
}

/// Counts how often a future is polled.
async fn counted<F: Future>(future: F, polls: &AtomicUsize) -> F::Output {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        polls.fetch_add(1, Relaxed);
        future.as_mut().poll(cx)
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn regression_28_waiters_are_woken_and_not_polled() {
    const WAITERS: usize = 200;
    static POLLS: [AtomicUsize; WAITERS] = [const { AtomicUsize::new(0) }; WAITERS];
    let queue = Queue::try_new(1_000, 3_600 * SECOND).unwrap();
    let layer = BulkheadLayer::builder("woken", Limit::fixed(1).unwrap()).queue(queue).build();
    let inner = service_fn(async |n: usize| {
        sleep(SECOND).await;
        Ok::<_, BoxError>(n)
    });
    let start = Instant::now();
    let mut calls = JoinSet::new();
    for (number, polls) in POLLS.iter().enumerate() {
        let service = layer.layer(inner);
        calls.spawn(counted(service.oneshot(number), polls));
    }
    let done = calls.join_all().await.into_iter().filter(Result::is_ok).count();
    assert_eq!((done, start.elapsed()), (WAITERS, u32::try_from(WAITERS).unwrap() * SECOND));
    for polls in &POLLS {
        // When it begins to wait, when it is its turn (and the call inside begins), when the call ends.
        assert!(polls.load(Relaxed) <= 3, "{polls:?}");
    }
}

/// What a timeout for each attempt, inside the bulkhead or outside of the adapter, makes of a call.
fn timed_out() -> Rejected {
    Origin::new("timeout", "attempt").reject(Reason::TimedOut).after_sending()
}

/// A backend that answers quickly with errors has nothing to do: fewer calls would not mend it.
#[tokio::test(start_paused = true)]
async fn a_backend_that_fails_by_itself_keeps_its_limit() {
    for algorithm in ALGORITHMS {
        let limiter = adaptive(algorithm());
        for i in 0..2000 {
            let answer = async || {
                sleep(10 * MS).await;
                if i % 3 == 0 { Err::<(), BoxError>("broken".into()) } else { Ok(()) }
            };
            let _result = limiter.call(answer).await;
        }
        assert_eq!(limiter.limit(), 20);
    }
}

#[tokio::test(start_paused = true)]
async fn regression_29_timeouts_shrink_an_adaptive_limit() {
    for algorithm in ALGORITHMS {
        let limiter = adaptive(algorithm());
        // 200 calls that hang until their own timeout says so, as many at once as may.
        for _ in 0..10 {
            let mut calls = JoinSet::new();
            for _ in 0..20 {
                let limiter = limiter.clone();
                calls.spawn(async move {
                    let hang = async || {
                        sleep(250 * MS).await;
                        Err::<(), BoxError>(timed_out().into())
                    };
                    limiter.call(hang).await
                });
            }
            calls.join_all().await;
        }
        let limit = limiter.limit();
        assert!(limit <= 10, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn regression_29_an_answer_that_asks_for_less_shrinks_it_and_one_to_be_ignored_does_not() {
    for (outcome, expected) in [(Outcome::Throttled(None), 1..=2), (Outcome::Ignored, 20..=20)] {
        let limiter = adaptive(Adaptive::aimd());
        for _ in 0..2000 {
            let permit = limiter.acquire().await.unwrap();
            advance(10 * MS).await;
            permit.finish(outcome);
        }
        assert!(expected.contains(&limiter.limit()), "{outcome:?}: {}", limiter.limit());
    }
}

#[tokio::test(start_paused = true)]
async fn regression_29_a_caller_without_patience_says_nothing_of_the_backend() {
    let limiter = adaptive(Adaptive::aimd());
    let fails = async || {
        sleep(10 * MS).await;
        Err::<(), BoxError>(timed_out().into())
    };
    for patience in [5 * MS, 20 * MS] {
        assert_eq!(limiter.limit(), 20);
        for _ in 0..200 {
            Deadline::after(patience).scope(limiter.call(fails)).await.unwrap_err();
        }
    }
    assert!(limiter.limit() < 20, "failed in time");
}

#[tokio::test(start_paused = true)]
async fn regression_29_a_limit_that_is_not_used_does_not_grow() {
    for algorithm in ALGORITHMS {
        let limiter = adaptive(algorithm());
        for _ in 0..2000 {
            limiter
                .call(async || {
                    sleep(10 * MS).await;
                    Ok::<_, BoxError>(())
                })
                .await
                .unwrap();
        }
        assert_eq!(limiter.limit(), 20, "one call at a time");
    }
}

#[tokio::test(start_paused = true)]
async fn regression_29_an_answer_that_comes_too_late_shrinks_aimd_and_no_other() {
    for (algorithm, shrinks) in ALGORITHMS.into_iter().zip([true, false, false]) {
        let limiter = adaptive(algorithm());
        for took in [999 * MS, SECOND] {
            assert_eq!(limiter.limit(), 20);
            for _ in 0..30 {
                let answer = async || {
                    sleep(took).await;
                    Ok::<_, BoxError>(())
                };
                limiter.call(answer).await.unwrap();
            }
        }
        assert_eq!(limiter.limit() < 20, shrinks, "{:?}", algorithm());
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_takes_its_time_and_ten_calls() {
    let limiter = adaptive(Adaptive::aimd());
    let fail = |calls| (0..calls).for_each(|_| limiter.try_acquire().unwrap().finish(Outcome::Failure));
    fail(9);
    advance(99 * MS).await;
    fail(1);
    assert_eq!(limiter.limit(), 20, "it is not up yet");
    advance(MS).await;
    fail(1);
    assert_eq!(limiter.limit(), 18);
    advance(SECOND).await;
    fail(9);
    assert_eq!(limiter.limit(), 18, "nine calls say little");
    fail(1);
    assert_eq!(limiter.limit(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_was_reached_for_a_moment_was_in_use() {
    let calls = async |limiter: &Limiter| {
        for _ in 0..10 {
            advance(20 * MS).await;
            limiter.try_acquire().unwrap().finish(Outcome::Success);
        }
        limiter.limit()
    };
    for (taken, expected) in [(9, 20), (21, 21)] {
        let limiter = adaptive(Adaptive::aimd());
        let held: Vec<_> = (0..taken).map_while(|_| limiter.try_acquire().ok()).collect();
        drop(held);
        assert_eq!(calls(&limiter).await, expected);
    }
}

/// At its end, and now and then within: the limit is never reached here.
#[tokio::test(start_paused = true)]
async fn a_limit_that_half_was_in_use_grows_whenever_that_was() {
    let finish = async |limiter: &Limiter, calls: u32, took: Duration| {
        for _ in 0..calls {
            let permit = limiter.try_acquire().unwrap();
            advance(took).await;
            permit.finish(Outcome::Success);
        }
    };
    let hold = |limiter: &Limiter| -> Vec<_> { (0..9).map(|_| limiter.try_acquire().unwrap()).collect() };
    // How many calls see the others in flight, and whether the last one does.
    for (beside, at_the_end, expected) in [(0, false, 20), (16, false, 21), (0, true, 21)] {
        let limiter = adaptive(Adaptive::aimd());
        finish(&limiter, 10, MS).await;
        let held = hold(&limiter);
        finish(&limiter, beside, MS).await;
        drop(held);
        let held = if at_the_end { hold(&limiter) } else { Vec::new() };
        finish(&limiter, 1, 100 * MS).await;
        assert_eq!(limiter.limit(), expected, "{beside} {at_the_end}");
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn an_adaptive_limit_goes_on_from_what_was_set() {
    let limiter = adaptive(Adaptive::aimd());
    limiter.set_limit(100).unwrap();
    advance(SECOND).await;
    (0..10).for_each(|_| limiter.try_acquire().unwrap().finish(Outcome::Failure));
    assert_eq!(limiter.limit(), 90);
}

/// Called as a service or through the handle: what never waited for the backend is not timed.
#[tokio::test(start_paused = true)]
async fn calls_that_are_ready_at_once_say_nothing() {
    for by_handle in [false, true] {
        let layer = BulkheadLayer::new("at once", Limit::adaptive(Adaptive::aimd()));
        let limiter = layer.limiter();
        let mut service = layer.layer(service_fn(async |n: u32| Ok::<_, BoxError>(n)));
        // In use, so that it would grow.
        let _held: Vec<_> = (0..19).map(|_| limiter.try_acquire().unwrap()).collect();
        for n in 0..200 {
            advance(10 * MS).await;
            let answer = if by_handle {
                limiter.call(async || Ok::<_, BoxError>(n)).await
            } else {
                service.ready().await.unwrap().call(n).await
            };
            assert_eq!(answer.unwrap(), n);
        }
        assert_eq!(limiter.limit(), 20);
    }
}

/// So many callers for so long, each call taking 10 ms.
async fn load(limiter: &Limiter, callers: usize, length: Duration) {
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let limiter = limiter.clone();
        tasks.spawn(async move {
            let end = Instant::now() + length;
            while Instant::now() < end {
                let call = async || {
                    sleep(10 * MS).await;
                    Ok::<_, Rejected>(())
                };
                if limiter.call(call).await.is_err() {
                    sleep(10 * MS).await;
                }
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn regression_29_a_limit_follows_what_is_used() {
    for algorithm in ALGORITHMS {
        let limiter = adaptive(algorithm());
        load(&limiter, 60, 30 * SECOND).await;
        let limit = limiter.limit();
        // Where half of it is used it stops; Vegas makes steps of 6 and more.
        assert!((60..=135).contains(&limit), "{limit}: {:?}", algorithm());
        load(&limiter, 5, 30 * SECOND).await;
        assert!(limiter.limit() <= 25, "five times what is used: {}", limiter.limit());
    }
}

#[tokio::test(start_paused = true)]
async fn regression_31_one_pending_of_the_service_is_no_overload() {
    for queued in [false, true] {
        let backend = Backend::new();
        // As tokio's cooperative yield does it: pending once, and woken at once.
        backend.ready_after(1);
        let limit = Limit::fixed(1).unwrap();
        for _ in 0..100 {
            let answer = if queued {
                let queue = Queue::try_new(1, SECOND).unwrap();
                let layer = BulkheadLayer::builder("yield", limit).queue(queue).build();
                layer.layer(backend.service::<BoxError>()).oneshot(1).await
            } else {
                BulkheadLayer::new("yield", limit).layer(backend.service::<BoxError>()).oneshot(1).await
            };
            assert_eq!(answer.unwrap(), 1);
        }
    }
}

/// Over a real `Buffer`, whose channel takes part in that.
#[tokio::test]
async fn regression_31_a_buffer_that_yields_is_no_overload() {
    let layer = BulkheadLayer::new("buffer", Limit::fixed(64).unwrap());
    let inner = service_fn(async |n: u32| Ok::<_, BoxError>(n));
    let mut service = layer.layer(tower::buffer::Buffer::new(inner, 1));
    for n in 0..1_000 {
        assert_eq!(service.ready().await.unwrap().call(n).await.unwrap(), n);
    }
    let _held: Vec<_> = std::iter::from_fn(|| layer.limiter().try_acquire().ok()).collect();
    let refused = service.ready().await.unwrap().call(0).await.unwrap_err();
    assert_eq!(refused.rejected().unwrap().reason(), Reason::Overloaded);
}
