//! What these tests share.

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_cache::{Cache, CacheBuilder};
use buttress_core::BoxError;
use buttress_redis::{
    Command, Redis, RedisConfig, Value,
    cache::{RedisStore, StoreWatch},
};
use buttress_testkit::RedisServer;
use tokio::time::{Instant, sleep};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) type Users = Cache<u64, String>;
pub(crate) type UserStore = RedisStore<u64, String>;

pub(crate) fn config(url: &str) -> RedisConfig {
    RedisConfig::from_url(url).unwrap()
}

pub(crate) async fn store(url: &str) -> UserStore {
    RedisStore::connect(config(url), "users").await.unwrap()
}

/// Values have a tag by which their key is even or odd.
pub(crate) fn builder() -> CacheBuilder<u64, String> {
    Cache::builder("users").jitter(0.0).tags(|key: &u64, _| vec![parity(*key).to_owned()])
}

pub(crate) fn parity(key: u64) -> &'static str {
    if key.is_multiple_of(2) { "even" } else { "odd" }
}

/// As a process has it: a store of its own.
pub(crate) async fn users(url: &str) -> (Users, StoreWatch) {
    let store = store(url).await;
    let watch = store.watch();
    (builder().store(store).build(), watch)
}

pub(crate) async fn load(cache: &Users, key: u64, value: &str) -> String {
    cache.get_or_load(key, || ready(Ok::<_, BoxError>(value.to_owned()))).await.unwrap()
}

/// A load that takes so long, and is counted.
pub(crate) async fn slow(cache: &Users, key: u64, value: &str, takes: Duration, loads: &AtomicU32) -> String {
    let load = async || {
        loads.fetch_add(1, Relaxed);
        sleep(takes).await;
        Ok::<_, BoxError>(value.to_owned())
    };
    cache.get_or_load(key, load).await.unwrap()
}

/// How long it took until that was so.
pub(crate) async fn until(limit: Duration, is_so: impl Fn() -> bool) -> Duration {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < limit, "it is not so after {limit:?}");
        sleep(ms(1)).await;
    }
    begin.elapsed()
}

/// Somebody else at the same server.
pub(crate) async fn redis(server: &RedisServer) -> Redis {
    Redis::connect(config(&server.url())).await.unwrap()
}

pub(crate) async fn run(redis: &Redis, line: &str) -> Value {
    let mut words = line.split(' ').map(str::to_owned);
    let command = Command::new(words.next().unwrap()).args(words);
    redis.send(command).await.unwrap()
}

pub(crate) fn counter() -> Arc<AtomicU32> {
    Arc::default()
}

/// Polls a call, gives the others so many turns, and drops it. A timer is too coarse for that.
pub(crate) async fn drop_after(turns: u32, call: impl Future) {
    let turns = async {
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        _ = call => {}
        () = turns => {}
    }
}
