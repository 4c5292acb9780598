//! A limit for each key.

use std::{net::IpAddr, time::Duration};

use buttress_core::Rejected;
use buttress_rate_limit::{Limit, Rate, RateLimitLayer};
use tokio::time::{Instant, advance};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_and_all_have_one_together() {
    let layer = RateLimitLayer::builder("clients", Rate::per_second(2))
        .keyed(|client: &IpAddr| *client)
        .overall(Rate::per_second(3))
        .build();
    let mut service = layer.layer(service_fn(async |_: IpAddr| Ok::<_, Rejected>(())));
    let [one, two]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let mut admitted = async |client| service.ready().await.unwrap().call(client).await.is_ok();
    assert!(admitted(one).await && admitted(one).await);
    assert!(!admitted(one).await, "its own");
    assert!(admitted(two).await);
    assert!(!admitted(two).await, "that of all");
    let limiter = layer.limiter();
    let left = |key: &IpAddr| limiter.quotas(key).iter().map(|quota| quota.remaining).collect::<Vec<_>>();
    assert_eq!((left(&one), left(&two)), (vec![0, 0], vec![0, 1]), "a refusal took nothing from the key");
    assert_eq!(limiter.active_keys(), 2);
    advance(2 * SECOND).await;
    assert_eq!(limiter.active_keys(), 0);
    assert_eq!((left(&one), left(&two)), (vec![3, 2], vec![3, 2]));
}

#[tokio::test(start_paused = true)]
async fn keys_wait_apart_and_then_for_all() {
    let gcra = |rate| Limit::gcra(rate, 1).unwrap();
    let layer = RateLimitLayer::builder("clients", gcra(Rate::per_second(1)))
        .wait(10 * SECOND)
        .keyed(|client: &u32| *client)
        .overall(gcra(Rate::per_second(4)))
        .build();
    let service = layer.layer(service_fn(async |client: u32| Ok::<_, Rejected>(client)));
    let began = Instant::now();
    let calls: Vec<_> = [1, 1, 1, 2, 2, 3]
        .into_iter()
        .map(|client| {
            let mut service = service.clone();
            tokio::spawn(async move {
                service.ready().await.unwrap().call(client).await.unwrap();
                began.elapsed()
            })
        })
        .collect();
    let mut after = Vec::new();
    for call in calls {
        after.push(call.await.unwrap().as_millis());
    }
    // The first of each waits for all; the others for their key, whose time runs from when its unit was taken.
    assert_eq!(after, [0, 1_000, 2_000, 250, 1_250, 500]);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_waits_in_vain_for_all_gets_its_units_back() {
    let layer = RateLimitLayer::builder("vain", Rate::per_second(5))
        .wait(SECOND)
        .keyed(|client: &u32| *client)
        .overall(Rate::per_minute(1))
        .build();
    let limiter = layer.limiter();
    limiter.try_acquire(&1, 1).unwrap();
    let began = Instant::now();
    assert!(limiter.acquire(&2, 1, SECOND).await.unwrap_err().retry_after().unwrap() > 59 * SECOND);
    assert_eq!(Instant::now(), began);
    assert_eq!(limiter.quotas(&2)[1].remaining, 5);
    // The same for one who has begun to wait, and goes.
    let waiting = limiter.clone();
    let waiting = tokio::spawn(async move { waiting.acquire(&2, 1, 90 * SECOND).await });
    tokio::task::yield_now().await;
    assert_eq!(limiter.quotas(&2)[1].remaining, 4);
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    assert_eq!(limiter.quotas(&2)[1].remaining, 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_restricts_one_key_or_all() {
    let layer =
        RateLimitLayer::builder("restricted", Rate::per_second(5)).keyed(|client: &u32| *client).build();
    let limiter = layer.limiter();
    limiter.restrict(&1, 0, 10 * SECOND);
    assert_eq!(limiter.try_acquire(&1, 1).unwrap_err().retry_after(), Some(10 * SECOND));
    assert!(limiter.try_acquire(&2, 1).is_ok());
    limiter.restrict_all(1, 10 * SECOND);
    assert!(limiter.try_acquire(&2, 1).is_ok());
    assert_eq!(limiter.try_acquire(&3, 1).unwrap_err().retry_after(), Some(10 * SECOND));
    assert_eq!(limiter.quotas(&3)[0].remaining, 5, "what was refused took nothing");
    advance(10 * SECOND).await;
    assert!(limiter.try_acquire(&1, 5).is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_random_keys_do_not_touch_one_that_is_at_its_limit() {
    for limit in [Limit::from(Rate::per_minute(3)), Limit::gcra(Rate::per_minute(3), 3).unwrap()] {
        let layer = RateLimitLayer::builder("flood", limit).keyed(|key: &u64| *key).capacity(1_000).build();
        let limiter = layer.limiter();
        limiter.try_acquire(&u64::MAX, 3).unwrap();
        for _ in 0..100_000 {
            let _ = limiter.try_acquire(&fastrand(), 1);
        }
        assert!(limiter.try_acquire(&u64::MAX, 1).is_err(), "{limit:?}");
        assert!(limiter.active_keys() <= 364 * 7);
    }
}

/// By the standard library's own seed.
fn fastrand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(7)
}
