//! What is stored comes back, for as long as it may.

use std::{collections::BTreeMap, future::ready, time::Duration};

use buttress_cache::{Cache, Entry, Store, Want};
use buttress_core::BoxError;
use buttress_redis::{
    RedisConfig,
    cache::{RedisStore, StoreError},
};
use buttress_testkit::RedisServer;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::support::{builder, config, load, ms, redis, run, store, until, users};

#[tokio::test]
async fn what_one_process_loaded_another_finds() {
    let server = RedisServer::start().await;
    let ((one, watch), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    assert_eq!(load(&one, 7, "Ada").await, "Ada");
    assert_eq!(load(&other, 7, "nobody").await, "Ada");
    assert_eq!(load(&other, 7, "nobody").await, "Ada");
    let (one, other) = (one.stats(), other.stats());
    assert_eq!((one.loads, one.store_errors, other.loads, other.store_errors), (1, 0, 0, 0));
    assert_eq!((other.store_hits, other.hits, other.entries), (1, 1, 1), "it stands in memory");
    let stats = watch.stats();
    assert_eq!((stats.unreadable, stats.unstorable, stats.refused, stats.waits), (0, 0, 0, 0));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Profile {
    name: String,
    scores: BTreeMap<u32, Vec<f64>>,
    kind: Kind,
    photo: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Guest,
    Member { since: u64 },
}

#[tokio::test]
async fn keys_and_values_of_any_kind_come_back() {
    let server = RedisServer::start().await;
    let connect = async || RedisStore::connect(config(&server.url()), "profiles").await.unwrap();
    let cache = async || Cache::<String, Profile>::builder("profiles").store(connect().await).build();
    let (one, other) = (cache().await, cache().await);
    let profile = |kind, photo| Profile {
        name: "\u{1F980} \0".into(),
        scores: [(1, vec![0.5, f64::MAX]), (u32::MAX, vec![])].into(),
        kind,
        photo,
    };
    let long = "x".repeat(1_024);
    for (key, kind, photo) in [
        ("", Kind::Guest, None),
        ("\u{e9} \n{}%*:\0", Kind::Member { since: u64::MAX }, Some(vec![0xff; 100_000])),
        (long.as_str(), Kind::Guest, Some(vec![])),
    ] {
        let value = profile(kind, photo);
        let load = || ready(Ok::<_, BoxError>(value.clone()));
        one.get_or_load(key.to_owned(), load).await.unwrap();
        let none = || ready(Err::<Profile, BoxError>("it was stored".into()));
        assert_eq!(other.get_or_load(key.to_owned(), none).await.unwrap(), value);
        assert!(other.get(&key.to_owned()).is_some());
        one.invalidate(&key.to_owned()).await.unwrap();
        until(ms(500), || other.get(&key.to_owned()).is_none()).await;
    }
}

#[tokio::test]
async fn a_value_ends_for_all_at_the_same_time() {
    let server = RedisServer::start().await;
    let cache = async || builder().ttl(ms(400)).store(store(&server.url()).await).build();
    let (one, other) = (cache().await, cache().await);
    let begin = Instant::now();
    load(&one, 1, "old").await;
    sleep(ms(200)).await;
    assert_eq!(load(&other, 1, "new").await, "old");
    until(ms(1_000), || other.get(&1).is_none()).await;
    let lived = begin.elapsed();
    assert!(ms(380) < lived && lived < ms(500), "{lived:?}");
    sleep(ms(420).saturating_sub(begin.elapsed())).await;
    assert_eq!(load(&other, 1, "new").await, "new");
    assert_eq!(load(&one, 1, "none").await, "new");
    // Redis keeps it a little longer, so that it is replaced rather than ended.
    let redis = redis(&server).await;
    let ttl: u64 = run(&redis, "PTTL users:k:1").await.convert().unwrap();
    assert!(ms(10_000) < ms(ttl) && ms(ttl) <= ms(10_400), "{ttl}");
}

#[tokio::test]
async fn what_is_left_of_a_value_is_told_by_redis() {
    let server = RedisServer::start().await;
    let cache = builder().ttl(ms(600)).stale_if_error(ms(600)).store(store(&server.url()).await).build();
    load(&cache, 1, "old").await;
    let other = store(&server.url()).await;
    let other_cache = builder().store(other).build();
    assert_eq!(load(&other_cache, 1, "new").await, "old");
    // Asked by itself.
    let bare = attached(&server).await;
    let Ok(Entry::Found(found)) = bare.0.enter(&1, Want::Fresh).await else { panic!("it is fresh") };
    assert!(ms(200) < found.fresh_for && found.fresh_for < ms(600), "{:?}", found.fresh_for);
    assert_eq!((found.stale_for, &*found.tags), (ms(600), &["odd".to_owned()][..]));
    sleep(found.fresh_for + ms(50)).await;
    let Ok(Entry::Found(found)) = bare.0.enter(&1, Want::Any).await else { panic!("it is stale") };
    assert_eq!(found.fresh_for, Duration::ZERO);
    assert!(ms(400) < found.stale_for && found.stale_for <= ms(550), "{:?}", found.stale_for);
    assert!(matches!(bare.0.enter(&1, Want::Fresh).await, Ok(Entry::Vacant(_))), "stale is none");
    sleep(found.stale_for).await;
    assert!(matches!(bare.0.enter(&1, Want::Any).await, Ok(Entry::Vacant(_))));
}

/// A store that is asked without a cache: it is another one's that hears of invalidations.
async fn attached(server: &RedisServer) -> (std::sync::Arc<Shared>, buttress_cache::Cache<u64, String>) {
    let shared = std::sync::Arc::new(store(&server.url()).await);
    let cache = builder().store(Through(shared.clone())).build();
    (shared, cache)
}

type Shared = crate::support::UserStore;

/// A cache's store that somebody else asks, too.
struct Through(std::sync::Arc<Shared>);

impl Store<u64, String> for Through {
    type Lease = buttress_redis::cache::Lease;

    async fn enter(&self, key: &u64, want: Want) -> Result<Entry<String, Self::Lease>, BoxError> {
        self.0.enter(key, want).await
    }

    async fn fill(
        &self,
        lease: Self::Lease,
        key: &u64,
        stored: &buttress_cache::Stored<String>,
    ) -> Result<(), BoxError> {
        self.0.fill(lease, key, stored).await
    }

    async fn put(&self, key: &u64, stored: &buttress_cache::Stored<String>) -> Result<(), BoxError> {
        self.0.put(key, stored).await
    }

    async fn remove(&self, key: &u64) -> Result<(), BoxError> {
        self.0.remove(key).await
    }

    async fn remove_tag(&self, tag: &str) -> Result<(), BoxError> {
        Store::<u64, String>::remove_tag(&*self.0, tag).await
    }

    async fn clear(&self) -> Result<(), BoxError> {
        Store::<u64, String>::clear(&*self.0).await
    }

    fn attach(&self, invalidations: buttress_cache::Invalidations<u64>) {
        Store::<u64, String>::attach(&*self.0, invalidations);
    }
}

#[tokio::test]
async fn an_old_value_is_served_by_all_while_one_loads_it_anew() {
    let server = RedisServer::start().await;
    let cache = async || {
        let builder = builder().ttl(ms(100)).stale_while_revalidate(ms(10_000));
        builder.store(store(&server.url()).await).build()
    };
    let (one, other) = (cache().await, cache().await);
    load(&one, 1, "old").await;
    sleep(ms(150)).await;
    // A process that begins now finds the old one.
    assert_eq!(load(&other, 1, "new").await, "old");
    assert_eq!(load(&other, 1, "new").await, "new", "who finds the old one past its time loads");
    assert_eq!(other.stats().loads, 1);
    // The first one learns of it.
    until(ms(500), || one.stats().invalidations > 0).await;
    assert_eq!(load(&one, 1, "none").await, "new");
}

#[tokio::test]
async fn another_version_of_the_type_is_a_miss_and_counted() {
    let server = RedisServer::start().await;
    let version = async |version| {
        let store = store(&server.url()).await.with_version(version);
        let watch = store.watch();
        (builder().store(store).build(), watch)
    };
    let ((one, _), (two, watch)) = (version(1).await, version(2).await);
    load(&one, 1, "first").await;
    assert_eq!(load(&two, 1, "second").await, "second");
    assert_eq!(watch.stats().unreadable, 1);
    until(ms(500), || one.get(&1).is_none()).await;
    assert_eq!(load(&two, 1, "none").await, "second");
}

#[tokio::test]
async fn a_value_above_the_limit_is_in_memory_only_and_coherent_all_the_same() {
    let server = RedisServer::start().await;
    let small = async || {
        let store = store(&server.url()).await.with_max_value(100);
        let watch = store.watch();
        (builder().store(store).build(), watch)
    };
    let ((one, watch), (other, other_watch)) = (small().await, small().await);
    let large = "x".repeat(100);
    load(&one, 1, &large).await;
    assert_eq!(watch.stats().unstorable, 1);
    assert!(one.get(&1).is_some());
    assert_eq!(load(&other, 1, &large).await, large);
    assert_eq!((other.stats().loads, other.stats().store_errors), (1, 0));
    sleep(ms(50)).await;
    assert!(one.get(&1).is_some(), "nobody wrote");
    other.invalidate(&1).await.unwrap();
    until(ms(500), || one.get(&1).is_none()).await;
    load(&one, 1, &large).await;
    other.insert(1, large.clone()).await.unwrap();
    until(ms(500), || one.get(&1).is_none()).await;
    // What another with a higher limit stored.
    let (generous, _) = users(&server.url()).await;
    generous.insert(1, large.clone()).await.unwrap();
    until(ms(500), || other.get(&1).is_none()).await;
    assert_eq!(load(&other, 1, "short").await, "short");
    assert_eq!(other_watch.stats().unreadable, 1);
}

#[tokio::test]
async fn a_key_that_is_too_long_is_loaded_and_not_kept() {
    let server = RedisServer::start().await;
    let store = RedisStore::connect(config(&server.url()), "texts").await.unwrap();
    let watch = store.watch();
    let cache = Cache::<String, u32>::builder("texts").store(store).build();
    let key = "x".repeat(1_025);
    for expected in 1..3 {
        let load = || ready(Ok::<_, BoxError>(expected));
        assert_eq!(cache.get_or_load(key.clone(), load).await.unwrap(), expected);
    }
    assert_eq!((cache.get(&key), cache.stats().store_errors, watch.stats().unstorable), (None, 0, 2));
    let error = cache.insert(key.clone(), 3).await.unwrap_err();
    assert!(matches!(error.downcast_ref(), Some(StoreError::TooLong)));
    assert!(cache.invalidate_tag(&key).await.is_err());
    cache.invalidate(&key).await.unwrap();
    // That was no failure of the store: nothing else is forgotten for it.
    cache.get_or_load("short".into(), || ready(Ok::<_, BoxError>(4))).await.unwrap();
    sleep(ms(1_500)).await;
    cache.get_or_load("another".into(), || ready(Ok::<_, BoxError>(5))).await.unwrap();
    assert_eq!((cache.get(&key), cache.get(&"short".to_owned()), watch.stats().flushes), (None, Some(4), 0));
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Nested(Vec<Nested>);

/// What would not be read back is not stored, instead of being found and loaded again and again.
#[tokio::test]
async fn a_value_that_is_nested_too_deep_is_in_memory_only() {
    let server = RedisServer::start().await;
    let nests = async || {
        let store = RedisStore::connect(config(&server.url()), "nested").await.unwrap();
        let watch = store.watch();
        (Cache::<u64, Nested>::builder("nested").store(store).build(), watch)
    };
    let ((one, watch), (other, other_watch)) = (nests().await, nests().await);
    for depth in [50, 100, 126, 127, 128, 129, 130, 200] {
        let value = (0..depth).fold(Nested(vec![]), |inner, _| Nested(vec![inner]));
        let loads = std::cell::Cell::new(0);
        for _ in 0..5 {
            for cache in [&one, &other] {
                let load = || {
                    loads.set(loads.get() + 1);
                    ready(Ok::<_, BoxError>(value.clone()))
                };
                assert_eq!(cache.get_or_load(depth, load).await.unwrap(), value);
            }
            sleep(ms(2)).await;
        }
        assert_eq!(loads.get(), if depth < 127 { 1 } else { 2 }, "{depth}");
    }
    assert_eq!((watch.stats().unreadable, other_watch.stats().unreadable), (0, 0));
    assert!(watch.stats().unstorable >= 3, "{:?}", watch.stats());
}

/// Only the second one would hear of what others write.
#[tokio::test]
#[should_panic(expected = "a `RedisStore` is one cache's")]
async fn a_store_is_one_caches() {
    let server = RedisServer::start().await;
    let (shared, _first) = attached(&server).await;
    let _second = builder().store(Through(shared)).build();
}

#[tokio::test]
async fn a_cluster_is_refused() {
    let config = RedisConfig::from_url("redis-cluster://127.0.0.1:1").unwrap();
    let error = RedisStore::<u64, String>::connect(config, "users").await.unwrap_err();
    assert!(matches!(error, StoreError::Cluster), "{error}");
}

#[tokio::test]
async fn nothing_is_shown() {
    let server = RedisServer::start().await;
    let url = server.url().replace("redis://", "redis://:hunter2@");
    // The password is wrong: it is away.
    let store = RedisStore::<String, String>::connect(config(&url).with_command_timeout(ms(50)), "users");
    let store = store.await.unwrap();
    let shown = format!("{store:?} {:?}", store.watch());
    assert!(!shown.contains("hunter2") && shown.contains("users"), "{shown}");
    let error = store.enter(&"hunter2".to_owned(), Want::Any).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
}
