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
    let quota = limiter.quotas(&3)[0];
    assert_eq!((quota.remaining, quota.restricted_for), (0, Some(10 * SECOND)));
    advance(10 * SECOND).await;
    assert_eq!(limiter.quotas(&3)[0].remaining, 5, "what was refused took nothing");
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

/// Numbers in a row and addresses of one network, as they come.
#[test]
fn keys_that_are_alike_spread_over_the_table() {
    let layer = RateLimitLayer::builder("spread", Limit::gcra(Rate::per_hour(1), 1).unwrap())
        .keyed(|key: &u64| *key)
        .build();
    let limiter = layer.limiter();
    let through = (0..30_000u64).filter(|key| limiter.try_acquire(key, 1).is_ok()).count();
    let address = |host: u32| IpAddr::from([192, 168, (host >> 8) as u8, host as u8]);
    let through =
        through + (0..30_000).filter(|host| limiter.try_acquire(&address(*host), 1).is_ok()).count();
    assert!(through > 59_900, "{through}");
}

#[test]
fn the_smallest_table_and_a_key_that_hashes_to_nothing() {
    struct Nothing;
    impl std::hash::Hash for Nothing {
        fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
    }
    let layer =
        RateLimitLayer::builder("small", Rate::per_hour(2)).keyed(|key: &u64| *key).capacity(0).build();
    let limiter = layer.limiter();
    assert!(limiter.try_acquire(&Nothing, 2).is_ok());
    assert!(limiter.try_acquire(&Nothing, 1).is_err());
    let through = (0..100u64).filter(|key| limiter.try_acquire(key, 2).is_ok()).count();
    assert_eq!(through, 7, "six more places, and the crowd");
}

/// By the standard library's own seed.
fn fastrand() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(7)
}
