//! Defects of other rate limiters.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Deadline, Reason, Rejected};
use buttress_rate_limit::{Limit, Rate, RateLimitLayer, RateLimiter};
use proptest::prelude::*;
use tokio::{
    task::JoinSet,
    time::{Instant, advance, sleep},
};
use tower::{Layer, Service, ServiceExt, service_fn};

const TENTH: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

fn run<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Steps are tenths of a millisecond, calls come in bursts, and all kinds of pauses are between them.
    #[test]
    fn regression_10_the_worst_window_holds_the_limit(
        arrivals in prop::collection::vec((prop_oneof![0..20u64, 900..1_100u64, 0..3_000u64], 1..700usize), 1..60),
    ) {
        let rate = Rate::try_new(1_000, TENTH).unwrap();
        for limit in [Limit::sliding_log(rate).unwrap(), Limit::sliding_window(rate)] {
            run(async {
                let limiter = RateLimiter::new("worst", limit);
                let mut admitted: Vec<Instant> = Vec::new();
                for (step, calls) in &arrivals {
                    advance(Duration::from_micros(step * 100)).await;
                    let now = Instant::now();
                    admitted.extend((0..*calls).filter(|_| limiter.try_acquire(1).is_ok()).map(|_| now));
                }
                for (index, first) in admitted.iter().enumerate() {
                    let end = admitted.partition_point(|at| *at < *first + TENTH);
                    assert!(end - index <= 1_000, "{limit:?}: {}", end - index);
                }
            });
        }
    }
}

/// Sixty that always want one more, and ten in a tenth of a second.
#[test]
fn regression_11_waiters_are_served_in_turn() {
    let rate = Rate::try_new(10, TENTH).unwrap();
    for limit in [
        Limit::sliding_log(rate).unwrap(),
        Limit::sliding_window(rate),
        Limit::gcra(rate, 10).unwrap(),
        Limit::gcra(rate, 1).unwrap(),
        Limit::fixed_window(rate),
    ] {
        run(async {
            let limiter = RateLimiter::new("fair", limit);
            let counts: Arc<[AtomicU32]> = (0..60).map(|_| AtomicU32::new(0)).collect();
            let refused = Arc::new(AtomicU32::new(0));
            for task in 0..60 {
                let (limiter, counts, refused) = (limiter.clone(), Arc::clone(&counts), Arc::clone(&refused));
                tokio::spawn(async move {
                    loop {
                        // The others take six tenths of a second: that fits.
                        match limiter.acquire(1, 2 * SECOND).await {
                            Ok(()) => counts[task].fetch_add(1, Relaxed),
                            Err(_) => refused.fetch_add(1, Relaxed),
                        };
                    }
                });
            }
            // Apart from the edges: the first burst, and who is on his way at the end.
            sleep(SECOND).await;
            let before: Vec<u32> = counts.iter().map(|count| count.load(Relaxed)).collect();
            sleep(6 * SECOND).await;
            let during: Vec<u32> =
                counts.iter().zip(before).map(|(count, before)| count.load(Relaxed) - before).collect();
            assert!(during.iter().all(|count| (9..=11).contains(count)), "{limit:?}: {during:?}");
            assert_eq!(refused.load(Relaxed), 0, "all of them fitted");
            let all: u32 = during.iter().sum();
            assert!((580..=610).contains(&all), "{limit:?}: {all}");
        });
    }
}

#[tokio::test(start_paused = true)]
async fn regression_11_a_cancelled_wait_gives_its_slot_back() {
    for limit in
        [Limit::gcra(Rate::per_second(1), 1).unwrap(), Limit::sliding_log(Rate::per_second(1)).unwrap()]
    {
        let limiter = RateLimiter::new("cancelled", limit);
        limiter.try_acquire(1).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let began = Instant::now();
        let mut waiting: Vec<_> = (0..4)
            .map(|number| {
                let (limiter, order) = (limiter.clone(), Arc::clone(&order));
                tokio::spawn(async move {
                    limiter.acquire(1, 10 * SECOND).await.unwrap();
                    order.lock().unwrap().push((number, began.elapsed()));
                })
            })
            .collect();
        tokio::task::yield_now().await;
        advance(SECOND / 2).await;
        // The first, and one in the middle.
        for gone in [2, 0] {
            waiting.remove(gone).abort();
        }
        sleep(5 * SECOND).await;
        let order = order.lock().unwrap().clone();
        assert_eq!(order, [(1, SECOND), (3, 2 * SECOND)], "{limit:?}: those behind move up");
    }
}

#[tokio::test(start_paused = true)]
async fn regression_12_a_wait_that_does_not_fit_is_refused_at_once() {
    let limiter = RateLimiter::new("known", Limit::gcra(Rate::per_minute(1), 1).unwrap());
    limiter.try_acquire(1).unwrap();
    let began = Instant::now();
    let refused = limiter.acquire(1, SECOND).await.unwrap_err();
    assert_eq!(refused.reason(), Reason::RateLimited);
    assert_eq!(refused.retry_after(), Some(60 * SECOND));

    // It would fit the bound, and not the deadline.
    let within = |limit| Deadline::after(limit).scope(limiter.acquire(1, 90 * SECOND));
    let refused = within(59 * SECOND).await.unwrap_err();
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::DeadlineExceeded, Some(60 * SECOND)));
    assert_eq!(Instant::now(), began);
    within(61 * SECOND).await.unwrap();
    assert_eq!(began.elapsed(), 60 * SECOND);

    // Behind another, the wait is his and one's own.
    let ahead = limiter.clone();
    let ahead = tokio::spawn(async move { ahead.acquire(1, 90 * SECOND).await });
    tokio::task::yield_now().await;
    let refused = limiter.acquire(1, 100 * SECOND).await.unwrap_err();
    assert_eq!(refused.retry_after(), Some(120 * SECOND));
    assert_eq!(
        limiter.try_acquire(1).unwrap_err().retry_after(),
        Some(120 * SECOND),
        "nor does it pass him by"
    );
    ahead.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn regression_13_readiness_takes_nothing() {
    let layer = RateLimitLayer::new("ready", Rate::per_second(5));
    let service = layer.layer(service_fn(async |(): ()| Ok::<_, Rejected>(())));
    for _ in 0..5 {
        let mut clone = service.clone();
        clone.ready().await.unwrap();
    }
    assert_eq!(layer.limiter().quotas()[0].remaining, 5);
}

#[tokio::test(start_paused = true)]
async fn regression_14_one_layer_is_one_limit() {
    let layer = RateLimitLayer::new("routes", Rate::per_second(10));
    let inner = service_fn(async |(): ()| Ok::<_, Rejected>(()));
    let mut admitted = 0;
    for mut route in [layer.layer(inner), layer.layer(inner), layer.clone().layer(inner)] {
        for _ in 0..10 {
            let mut clone = route.clone();
            admitted += u32::from(clone.ready().await.unwrap().call(()).await.is_ok());
            let _ = route.ready().await.unwrap();
        }
    }
    assert_eq!(admitted, 10);

    let layer = RateLimitLayer::builder("apart", Rate::per_second(10)).per_service();
    let mut all = JoinSet::new();
    for mut route in [layer.layer(inner), layer.layer(inner)] {
        all.spawn(async move {
            let mut admitted = 0;
            for _ in 0..20 {
                admitted += u32::from(route.ready().await.unwrap().call(()).await.is_ok());
            }
            admitted
        });
    }
    assert_eq!(all.join_all().await, [10, 10], "unless each was to have its own");
}
