//! Thousands who come and go on several threads.

mod figures;

use std::time::Duration;

use buttress_rate_limit::{Limit, Rate, RateLimiter};
use figures::gauge;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

const MINUTE: Duration = Duration::from_secs(60);

/// Threads, real time, and calls that give up at any moment.
#[test]
fn thousands_come_and_go_on_several_threads() {
    let rate = Rate::try_new(2_000, Duration::from_millis(100)).unwrap();
    for limit in [
        Limit::gcra(rate, 100).unwrap(),
        Limit::from(rate),
        Limit::sliding_log(rate).unwrap(),
        Limit::fixed_window(rate),
    ] {
        // The two do not know of each other.
        let limiter = RateLimiter::new("threads", limit);
        let began = Instant::now();
        let through: usize = std::thread::scope(|scope| {
            let runtimes = [1, 3].map(|threads| {
                let limiter = limiter.clone();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_multi_thread()
                        .worker_threads(threads)
                        .enable_time()
                        .build()
                        .unwrap();
                    let through = runtime.block_on(crowd(&limiter));
                    // Some wait still.
                    drop(runtime);
                    through
                })
            });
            runtimes.map(|runtime| runtime.join().unwrap()).into_iter().sum()
        });
        let periods = began.elapsed().as_millis() as usize / 100;
        assert!(through <= 2_000 * (periods + 2), "{limit:?}: {through} in {periods}");
        assert!(through >= 2_000, "{limit:?}: {through}");
        assert_eq!(gauge(&limiter, "waiting"), 0.0, "{limit:?}");
    }
}

async fn crowd(limiter: &RateLimiter) -> usize {
    let calls: Vec<_> = (0..4_000u64)
        .map(|number| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                // Half of them for less than they may have to wait.
                let patience = Duration::from_micros(number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 47);
                let call = limiter.acquire(1, 10 * SECOND);
                if number % 2 == 0 {
                    tokio::time::timeout(patience, call).await.is_ok()
                } else {
                    call.await.is_ok()
                }
            })
        })
        .collect();
    for number in 0..40 {
        let limiter = limiter.clone();
        tokio::spawn(async move { limiter.acquire(100 + number % 100, MINUTE).await });
    }
    let mut through = 0;
    for call in calls {
        through += usize::from(call.await.unwrap());
    }
    through
}
