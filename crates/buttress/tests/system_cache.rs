//! The cache: one load for all, failures that leave nothing, values of another type, Redis that dies.
#![cfg(feature = "system")]

mod system_support;

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress::{
    Cache, Config, Error,
    core::{Reason, Rejectable},
};
use buttress_testkit::RedisServer;
use futures_util::{FutureExt, future::join_all};
use tokio::time::{Instant, advance, sleep, timeout};

use self::system_support::{MS, PATIENCE, start, until, with_cache, with_redis};

/// Of its own process's memory.
async fn in_memory() -> Cache {
    start(with_cache(Config::default(), false)).await.cache().unwrap().clone()
}

async fn shared(server: &RedisServer) -> Cache {
    start(with_cache(with_redis(server.url()), true)).await.cache().unwrap().clone()
}

#[tokio::test]
async fn many_callers_are_one_load() {
    let server = RedisServer::start().await;
    for cache in [in_memory().await, shared(&server).await] {
        let loads = AtomicU32::new(0);
        let load = async || {
            loads.fetch_add(1, Relaxed);
            sleep(50 * MS).await;
            Ok::<u32, Error>(7)
        };
        let found = join_all((0..50).map(|_| cache.get_or_load("a", load))).await;
        assert!(found.into_iter().all(|found| found.is_ok_and(|value| value == 7)));
        assert_eq!(loads.load(Relaxed), 1, "{cache:?}");
    }
}

#[tokio::test]
async fn a_load_that_fails_or_panics_or_is_dropped_leaves_nothing() {
    let server = RedisServer::start().await;
    for cache in [in_memory().await, shared(&server).await] {
        for _ in 0..3 {
            let fails = async || {
                Err::<u32, Error>(serde_json::from_str::<u32>("x").map_err(Error::Unfit).unwrap_err())
            };
            assert!(matches!(cache.get_or_load("a", fails).await, Err(Error::Unfit(_))));
            let panics = async || -> Result<u32, Error> { panic!("a slip") };
            AssertUnwindSafe(cache.get_or_load("a", panics)).catch_unwind().await.unwrap_err();
            let hangs = async || std::future::pending::<Result<u32, Error>>().await;
            timeout(20 * MS, cache.get_or_load("a", hangs)).await.unwrap_err();
            assert_eq!(cache.get::<u32>("a").await.unwrap(), None);
        }
        let found = timeout(PATIENCE, cache.get_or_load("a", async || Ok::<u32, Error>(7))).await.unwrap();
        assert_eq!(found.unwrap(), 7);
        assert_eq!(cache.get::<u32>("a").await.unwrap(), Some(7));
    }
}

/// Who only looks must not spoil the load of who comes after.
#[tokio::test]
async fn a_look_fails_no_load_that_comes_meanwhile() {
    let server = RedisServer::start().await;
    for cache in [in_memory().await, shared(&server).await] {
        for round in 0..50 {
            let name = format!("a{round}");
            let load = async || Ok::<u32, Error>(7);
            let (looked, loaded, again) = tokio::join!(
                cache.get::<u32>(&name),
                cache.get_or_load(&name, load),
                cache.get_or_load(&name, load)
            );
            assert!(matches!(looked.unwrap(), None | Some(7)));
            assert_eq!((loaded.unwrap(), again.unwrap()), (7, 7));
        }
    }
}

/// A look that comes while somebody loads in vain finds nothing, whatever that one fails with.
#[tokio::test]
async fn a_load_that_fails_fails_no_look() {
    let server = RedisServer::start().await;
    let cache = shared(&server).await;
    let refused = async || {
        sleep(50 * MS).await;
        let breaker = buttress::core::Origin::new("circuit-breaker", "elsewhere");
        Err::<u32, Error>(breaker.reject(Reason::CircuitOpen).into())
    };
    let (loaded, looked) = tokio::join!(cache.get_or_load("a", refused), cache.get::<u32>("a"));
    assert_eq!(loaded.unwrap_err().rejected().unwrap().reason(), Reason::CircuitOpen);
    assert_eq!(looked.unwrap(), None);
}

#[tokio::test]
async fn a_value_of_another_type_counts_as_not_there() {
    let server = RedisServer::start().await;
    for cache in [in_memory().await, shared(&server).await] {
        cache.set("a", "text").await.unwrap();
        assert_eq!(cache.get::<u32>("a").await.unwrap(), None);
        assert_eq!(cache.get::<String>("a").await.unwrap().as_deref(), Some("text"), "{cache:?}");
        let loads = AtomicU32::new(0);
        let load = async || {
            loads.fetch_add(1, Relaxed);
            Ok::<u32, Error>(7)
        };
        for _ in 0..3 {
            assert_eq!(cache.get_or_load("a", load).await.unwrap(), 7);
        }
        assert_eq!(loads.load(Relaxed), 1, "it is kept as what it is now");
        assert_eq!(cache.get::<u32>("a").await.unwrap(), Some(7));
    }
}

#[tokio::test]
async fn what_json_has_no_form_for_is_said_and_not_kept() {
    let cache = in_memory().await;
    let unfit = BTreeMap::from([((1, 2), 3)]);
    assert!(matches!(cache.set("a", &unfit).await, Err(Error::Unfit(_))));
    // Nothing: a value that is there, and not one that is missing.
    cache.set("a", &None::<u32>).await.unwrap();
    assert_eq!(cache.get::<Option<u32>>("a").await.unwrap(), Some(None));
}

#[tokio::test(start_paused = true)]
async fn values_live_as_long_as_they_were_given() {
    let mut config = with_cache(Config::default(), false);
    config.cache.as_mut().unwrap().ttl = Duration::from_secs(60);
    let system = start(config).await;
    let cache = system.cache().unwrap();
    cache.set("minute", &1).await.unwrap();
    cache.set_for("second", &1, Duration::from_secs(1)).await.unwrap();
    cache.set_for("hour", &1, Duration::from_secs(3600)).await.unwrap();
    cache.set_for("never", &1, Duration::MAX).await.unwrap();
    cache.set_for("gone", &1, Duration::from_secs(3600)).await.unwrap();
    cache.set_for("gone", &2, Duration::ZERO).await.unwrap();
    cache.get_or_load("loaded", async || Ok::<u32, Error>(1)).await.unwrap();
    let kept = async || {
        let mut kept = Vec::new();
        for name in ["minute", "second", "hour", "never", "gone", "loaded"] {
            kept.extend(cache.get::<u32>(name).await.unwrap().map(|_| name));
        }
        kept
    };
    assert_eq!(kept().await, ["minute", "second", "hour", "never", "loaded"]);
    advance(Duration::from_millis(1_100)).await;
    assert_eq!(kept().await, ["minute", "hour", "never", "loaded"]);
    advance(Duration::from_secs(60)).await;
    assert_eq!(kept().await, ["hour", "never"]);
    advance(Duration::from_secs(3600)).await;
    assert_eq!(kept().await, ["never"]);
}

#[tokio::test]
async fn without_redis_it_goes_on_in_memory_and_comes_back() {
    let server = RedisServer::start().await;
    let (here, there) = (shared(&server).await, shared(&server).await);
    here.set("before", &1).await.unwrap();
    assert_eq!(there.get::<u32>("before").await.unwrap(), Some(1));

    server.kill().await;
    let began = Instant::now();
    assert_eq!(here.get::<u32>("before").await.unwrap(), Some(1));
    assert_eq!(here.get::<u32>("nothing").await.unwrap(), None);
    assert!(matches!(here.set("meanwhile", &2).await, Err(Error::Cache(_))));
    assert_eq!(here.get::<u32>("meanwhile").await.unwrap(), Some(2), "this process has it");
    assert_eq!(here.get_or_load("loaded", async || Ok::<u32, Error>(3)).await.unwrap(), 3);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());

    server.restart().await;
    until("it is shared again", async || {
        here.set("after", &4).await.is_ok() && there.get::<u32>("after").await.unwrap() == Some(4)
    })
    .await;
}
