//! What the handle tells and does, and what a cache says of its decisions.

use std::{future::pending, time::Duration};

use buttress_cache::{Cache, Entry, Invalidations, Store, Stored, Want};
use buttress_core::{BoxError, Deadline, Observe, Rejected, Setting, SettingValue, UnknownAction};
use buttress_testkit::observed::{said, settings, watched};
use tokio::time::advance;
use tower::{Layer, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn settings_are_those_in_force() {
    let cache: Cache<u32, u32> = Cache::builder("settings")
        .jitter(0.25)
        .time_to_idle(7 * SECOND)
        .stale_if_error(SECOND)
        .weigher(|_, _| 3)
        .build();
    assert_eq!(
        settings(&cache),
        [
            Setting::new("ttl", SettingValue::Duration(60 * SECOND)),
            Setting::new("expiry", SettingValue::Off),
            Setting::new("jitter", SettingValue::Ratio(0.25)),
            Setting::new("time_to_idle", SettingValue::Duration(7 * SECOND)),
            Setting::new("stale_while_revalidate", SettingValue::Off),
            Setting::new("stale_if_error", SettingValue::Duration(SECOND)),
            Setting::new("max_weight", SettingValue::Count(10_000)),
            Setting::new("weigher", SettingValue::Word("custom")),
            Setting::new("tags", SettingValue::Off),
            Setting::new("store", SettingValue::Off),
        ]
    );
    let cache: Cache<u32, u32> = Cache::builder("for_ever").ttl(Duration::MAX).build();
    assert!(settings(&cache).contains(&Setting::new("ttl", SettingValue::Off)));
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_clear_it() {
    let cache: Cache<u32, u32> = Cache::new("clear");
    cache.insert(1, 10).await.unwrap();
    assert_eq!((cache.actions(), cache.act("reset")), (&["clear"][..], Err(UnknownAction)));
    assert_eq!(cache.get(&1), Some(10));
    cache.downgrade().upgrade().unwrap().act("clear").unwrap();
    assert_eq!(cache.get(&1), None);
}

/// Has nothing, and forgets nothing.
struct Empty;

impl Store<u32, u32> for Empty {
    type Lease = ();

    async fn enter(&self, _: &u32, _: Want) -> Result<Entry<u32, ()>, BoxError> {
        Ok(Entry::Vacant(()))
    }
    async fn fill(&self, (): (), _: &u32, _: &Stored<u32>) -> Result<(), BoxError> {
        Ok(())
    }
    async fn put(&self, _: &u32, _: &Stored<u32>) -> Result<(), BoxError> {
        Ok(())
    }
    async fn remove(&self, _: &u32) -> Result<(), BoxError> {
        Ok(())
    }
    async fn remove_tag(&self, _: &str) -> Result<(), BoxError> {
        Ok(())
    }
    async fn clear(&self) -> Result<(), BoxError> {
        panic!("it is not asked")
    }
    fn attach(&self, _: Invalidations<u32>) {}
}

#[tokio::test(start_paused = true)]
async fn before_a_store_it_is_the_memory_alone_and_says_so() {
    let cache: Cache<u32, u32> = Cache::builder("store").store(Empty).build();
    cache.insert(1, 10).await.unwrap();
    assert_eq!((cache.actions(), cache.act("clear")), (&["clear_memory"][..], Err(UnknownAction)));
    cache.act("clear_memory").unwrap();
    assert_eq!(cache.get(&1), None);
    assert!(settings(&cache).contains(&Setting::new("store", SettingValue::Word("custom"))));
}

#[tokio::test(start_paused = true)]
async fn what_is_served_past_its_time_says_why() {
    let cache: Cache<u32, u32> = Cache::builder("stale").jitter(0.0).stale_if_error(60 * SECOND).build();
    let service =
        cache.layer(|key: &u32| Some(*key)).layer(service_fn(async |_| Err::<u32, BoxError>("down".into())));
    cache.insert(1, 10).await.unwrap();
    let (fresh, none) = watched(service.clone().oneshot(1)).await;
    assert_eq!((fresh.unwrap(), none), (10, vec![]));
    advance(62 * SECOND).await;
    let (stale, why) = watched(service.oneshot(1)).await;
    assert_eq!(
        (stale.unwrap(), why),
        (10, vec![said("served_stale", "2.0s past its time: the load failed")])
    );

    let cache: Cache<u32, u32> =
        Cache::builder("anew").jitter(0.0).stale_while_revalidate(60 * SECOND).build();
    let service = cache
        .layer(|key: &u32| Some(*key))
        .layer(service_fn(async |_| pending::<Result<u32, Rejected>>().await));
    cache.insert(1, 10).await.unwrap();
    advance(63 * SECOND).await;
    // The first begins the load, the second finds it begun.
    for _ in 0..2 {
        let (stale, why) = watched(service.clone().oneshot(1)).await;
        assert_eq!(
            (stale.unwrap(), why),
            (10, vec![said("served_stale", "3.0s past its time: it is loaded anew")])
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_says_so() {
    let cache: Cache<u32, u32> = Cache::new("joined");
    let service = cache
        .layer(|key: &u32| Some(*key))
        .layer(service_fn(async |_| pending::<Result<u32, Rejected>>().await));
    let _leader = tokio::spawn(service.clone().oneshot(1));
    tokio::task::yield_now().await;
    let (late, why) =
        watched(Deadline::after(SECOND).scope(async { service.clone().oneshot(1).await })).await;
    assert!(late.is_err());
    let expected = [
        [said("joined", "another call loads the same")],
        [said("gave_up", "the caller's deadline passed while another call loaded")],
    ];
    assert_eq!(why, expected.concat());
}

#[test]
fn a_weak_handle_keeps_nothing_alive() {
    let cache: Cache<u32, u32> = Cache::new("weak");
    let weak = cache.downgrade();
    let layer = cache.layer(|key: &u32| Some(*key));
    drop(cache);
    assert!(weak.upgrade().is_some());
    drop(layer);
    assert!(weak.upgrade().is_none());
}
