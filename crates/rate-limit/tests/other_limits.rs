//! Limits that are set while calls are counted, wait and are restricted.

use std::{pin::pin, time::Duration};

use buttress_core::{Observe, Reason, Setting, SettingValue};
use buttress_rate_limit::{InvalidLimits, KeyedRateLimiter, Limit, Rate, RateLimitLayer, RateLimiter};
use futures_util::{FutureExt, future::join_all};
use tokio::time::{Instant, advance, sleep};

const MINUTE: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(3_600);

fn remaining(limiter: &RateLimiter) -> u32 {
    limiter.quotas()[0].remaining
}

fn every_algorithm(units: u32) -> [Limit; 4] {
    let rate = Rate::per_minute(units);
    [
        Limit::sliding_window(rate),
        Limit::sliding_log(rate).unwrap(),
        Limit::fixed_window(rate),
        Limit::gcra(rate, units).unwrap(),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_goes_on_to_count() {
    for index in 0..4 {
        let limit = |units| every_algorithm(units)[index];
        let limiter = RateLimiter::new("counts", limit(100));
        limiter.try_acquire(80).unwrap();
        limiter.set_limits([limit(200)]).unwrap();
        assert_eq!(remaining(&limiter), 120, "{:?}", limit(200));
        limiter.set_limits([limit(50)]).unwrap();
        assert_eq!(remaining(&limiter), 0);
        let refused = limiter.try_acquire(1).unwrap_err();
        // To the nanosecond, as ever.
        let wait = refused.retry_after().unwrap();
        advance(wait - Duration::from_nanos(1)).await;
        assert!(limiter.try_acquire(1).is_err(), "{:?}", limit(50));
        advance(Duration::from_nanos(1)).await;
        limiter.try_acquire(1).unwrap();
        advance(2 * MINUTE).await;
        assert_eq!(remaining(&limiter), 50);
        assert!(limiter.try_acquire(51).unwrap_err().retry_after().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_longer_period_counts_what_is_known_and_a_shorter_one_forgets_the_rest() {
    let log = |units, period| Limit::sliding_log(Rate::try_new(units, period).unwrap()).unwrap();
    let limiter = RateLimiter::new("period", log(10, MINUTE));
    limiter.try_acquire(4).unwrap();
    advance(MINUTE / 2).await;
    limiter.try_acquire(6).unwrap();
    limiter.set_limits([log(10, MINUTE * 2)]).unwrap();
    advance(MINUTE).await;
    assert_eq!(remaining(&limiter), 0, "by the former minute, all were back");
    advance(MINUTE / 2).await;
    assert_eq!(remaining(&limiter), 4);
    limiter.set_limits([log(10, MINUTE)]).unwrap();
    assert_eq!(remaining(&limiter), 10);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_are_let_through_by_a_higher_limit() {
    for index in 0..4 {
        let limit = |units| every_algorithm(units)[index];
        let limiter = RateLimiter::new("higher", limit(1));
        limiter.try_acquire(1).unwrap();
        let begin = Instant::now();
        let wait = async |_| {
            limiter.acquire(1, LONG).await.unwrap();
            begin.elapsed()
        };
        let raise = async {
            sleep(Duration::from_millis(10)).await;
            limiter.set_limits([limit(4)]).unwrap();
        };
        let (waits, ()) = tokio::join!(join_all((0..4).map(wait)), raise);
        assert!(waits[..3].iter().all(|wait| *wait == Duration::from_millis(10)), "{waits:?}");
        assert!(waits[3] > Duration::from_millis(10) && waits[3] < MINUTE + MINUTE / 100, "{waits:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn those_who_cannot_be_in_time_any_more_are_refused_at_once() {
    let limiter = RateLimiter::new("lower", Limit::gcra(Rate::per_second(1), 1).unwrap());
    limiter.try_acquire(1).unwrap();
    let begin = Instant::now();
    let wait = async || {
        let result = limiter.acquire(1, Duration::from_secs(5)).await;
        (result.map_err(|rejected| rejected.reason()), begin.elapsed())
    };
    let lower = async {
        sleep(Duration::from_millis(500)).await;
        limiter
            .set_limits([Limit::gcra(Rate::try_new(1, Duration::from_secs(4)).unwrap(), 1).unwrap()])
            .unwrap();
    };
    let (first, second, ()) = tokio::join!(wait(), wait(), lower);
    // Half a unit has to come back, which takes two seconds now.
    assert_eq!(first.0, Ok(()));
    assert!((2_499..2_510).contains(&first.1.as_millis()), "{first:?}");
    assert_eq!(second, (Err(Reason::RateLimited), Duration::from_millis(500)));
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_for_more_than_there_can_be_stands_in_nobodys_way() {
    let limiter = RateLimiter::new("heavy", Rate::per_minute(10));
    limiter.try_acquire(10).unwrap();
    let mut heavy = pin!(limiter.acquire(8, LONG));
    let mut light = pin!(limiter.acquire(1, LONG));
    assert!(heavy.as_mut().now_or_never().is_none());
    assert!(light.as_mut().now_or_never().is_none());
    limiter.set_limits([Rate::per_minute(5)]).unwrap();
    // Nobody polls the heavy one.
    tokio::time::timeout(2 * MINUTE, light).await.unwrap().unwrap();
    let refused = heavy.await.unwrap_err();
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::RateLimited, None));
    assert_eq!(remaining(&limiter), 4);
    let mut waiting = None;
    limiter.observe(&mut |metric| {
        if metric.name == "waiting" {
            waiting = Some(metric.value);
        }
    });
    assert_eq!(waiting, Some(buttress_core::Value::Gauge(0.0)));
}

#[tokio::test(start_paused = true)]
async fn a_restriction_stays() {
    let limiter = RateLimiter::new("restricted", Rate::per_minute(10));
    limiter.restrict(2, MINUTE);
    limiter.set_limits([Rate::per_minute(100)]).unwrap();
    assert_eq!(remaining(&limiter), 2);
    limiter.try_acquire(2).unwrap();
    assert!(limiter.try_acquire(1).is_err());
    advance(MINUTE).await;
    limiter.try_acquire(98).unwrap();
}

#[test]
fn what_cannot_be_is_an_error_and_changes_nothing() {
    let layer = RateLimitLayer::builder("both", Rate::per_minute(10)).and(Rate::per_hour(100)).build();
    let limiter = layer.limiter();
    let before: Vec<_> = limiter.limits().collect();
    let error = limiter.set_limits([Rate::per_minute(1)]).unwrap_err();
    assert_eq!(error, InvalidLimits::Count { name: "both", has: 2, given: 1 });
    let other = [Limit::from(Rate::per_minute(1)), Limit::fixed_window(Rate::per_hour(1))];
    let error = limiter.set_limits(other).unwrap_err();
    assert_eq!(
        error.to_string(),
        "limit 2 of the rate limiter `both` is held by sliding_window and not by fixed_window: keep that, or make another limiter"
    );
    assert_eq!(limiter.limits().collect::<Vec<_>>(), before);
    limiter.set_limits([Rate::per_minute(20), Rate::per_hour(15)]).unwrap();
    limiter.try_acquire(15).unwrap();
    assert!(limiter.try_acquire(1).is_err());
    assert!(limiter.try_acquire(16).unwrap_err().retry_after().is_none());
}

#[test]
fn the_settings_are_those_that_were_set() {
    let limiter = RateLimiter::new("told", Rate::per_minute(60));
    limiter.set_limits([Rate::per_second(7)]).unwrap();
    let mut seen = Vec::new();
    limiter.settings(&mut |setting| seen.push(setting));
    assert_eq!(seen[0], Setting::new("limit", SettingValue::Count(7)));
    assert_eq!(seen[1], Setting::new("per", SettingValue::Duration(Duration::from_secs(1))));
    assert_eq!(limiter.quotas()[0].limit, Rate::per_second(7).into());
}

#[tokio::test(start_paused = true)]
async fn with_keys_the_limit_of_all_can_be_set() {
    let layer = RateLimitLayer::builder("keys", Rate::per_minute(5))
        .keyed(|key: &u32| *key)
        .overall(Rate::per_minute(3))
        .capacity(16)
        .build();
    let limiter: KeyedRateLimiter = layer.limiter();
    limiter.try_acquire(&1, 3).unwrap();
    assert!(limiter.try_acquire(&2, 1).is_err());
    limiter.set_overall([Rate::per_minute(10)]).unwrap();
    limiter.try_acquire(&2, 5).unwrap();
    assert!(limiter.try_acquire(&2, 1).is_err(), "a key's own limit stays");
    assert!(limiter.try_acquire(&1, 3).is_err());
    limiter.try_acquire(&1, 2).unwrap();
}
