//! What one process writes, the memories of the others forget.

use std::{
    fmt::{self, Display},
    future::ready,
    num::ParseIntError,
    str::FromStr,
    time::Duration,
};

use buttress_core::BoxError;
use buttress_testkit::RedisServer;
use tokio::time::sleep;

use crate::support::{Users, drop_after, load, ms, redis, run, store, until, users};

const SOON: Duration = ms(500);

#[tokio::test]
async fn an_insertion_and_an_invalidation_reach_the_other_process() {
    let server = RedisServer::start().await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    for round in 0..20 {
        let value = format!("round {round}");
        load(&other, 1, "before").await;
        one.insert(1, value.clone()).await.unwrap();
        until(SOON, || other.get(&1).is_none()).await;
        assert_eq!(load(&other, 1, "none").await, value);
        assert_eq!(one.get(&1), Some(value), "whoever wrote it has it");
        other.invalidate(&1).await.unwrap();
        until(SOON, || one.get(&1).is_none()).await;
        assert_eq!(load(&one, 1, "loaded").await, "loaded");
        assert_eq!(load(&other, 1, "none").await, "loaded");
        one.insert(1, "again".into()).await.unwrap();
        until(SOON, || other.get(&1).is_none()).await;
    }
    assert_eq!((one.stats().store_errors, other.stats().store_errors), (0, 0));
}

/// It may be told of what it remembered before while it loads the same key: then that is not kept.
async fn keep(cache: &Users, key: u64) {
    while cache.get(&key).is_none() {
        load(cache, key, "none").await;
    }
}

#[tokio::test]
async fn a_tag_and_everything_reach_the_other_process() {
    let server = RedisServer::start().await;
    let ((one, _), (other, watch)) = (users(&server.url()).await, users(&server.url()).await);
    for _ in 0..5 {
        for key in 1..5 {
            load(&one, key, "old").await;
            keep(&other, key).await;
        }
        let before = watch.stats().flushes;
        one.invalidate_tag("odd").await.unwrap();
        assert_eq!((one.get(&1), one.get(&2).is_some()), (None, true));
        until(SOON, || other.get(&1).is_none() && other.get(&3).is_none()).await;
        assert!(other.get(&2).is_some() && other.get(&4).is_some());
        assert_eq!(load(&other, 1, "new").await, "new", "it is not read back");
        assert_eq!(load(&one, 1, "none").await, "new");
        assert_eq!(watch.stats().flushes, before, "only what had the tag was forgotten");
        other.clear().await.unwrap();
        until(SOON, || one.get(&2).is_none()).await;
        assert_eq!(load(&one, 2, "new").await, "new");
        // So that there is something to be forgotten.
        keep(&other, 2).await;
        one.clear().await.unwrap();
        until(SOON, || other.get(&2).is_none() && other.stats().entries == 0).await;
    }
}

#[tokio::test]
async fn more_tags_at_once_than_are_listed_are_all_heard_of() {
    let server = RedisServer::start().await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    load(&other, 1, "old").await;
    let tags = (0..1_000).map(|n| {
        let one = one.clone();
        tokio::spawn(async move { one.invalidate_tag(&format!("tag {n}")).await.unwrap() })
    });
    let tags: Vec<_> = tags.collect();
    one.invalidate_tag("odd").await.unwrap();
    for tag in tags {
        tag.await.unwrap();
    }
    until(SOON, || other.get(&1).is_none()).await;
    assert_eq!(load(&other, 1, "new").await, "new");
}

#[tokio::test]
async fn a_tag_outlives_what_has_it_and_ends() {
    let server = RedisServer::start().await;
    let (one, _) = users(&server.url()).await;
    load(&one, 1, "old").await;
    let redis = redis(&server).await;
    let ttl = async |key: &str| run(&redis, &format!("PTTL {key}")).await.convert::<i64>().unwrap();
    let (tag, entry) = (ttl("users:t:odd").await, ttl("users:k:1").await);
    // They are set one after the other, and an entry is kept for ten seconds that it is not served.
    assert!(0 < entry && entry <= tag + 100 && tag <= 70_000, "{entry}, {tag}");
    one.invalidate_tag("odd").await.unwrap();
    one.invalidate_tag("unheard").await.unwrap();
    let (tag, unheard, listed) =
        (ttl("users:t:odd").await, ttl("users:t:unheard").await, ttl("users:tags").await);
    assert!(0 < tag && tag <= 70_000 && 0 < listed && listed <= 3_600_000, "{tag}, {listed}");
    assert_eq!(unheard, -2, "a tag that nothing has takes no memory");
    // A tag that Redis lost, by want of memory for example, counts as invalidated.
    load(&one, 1, "new").await;
    run(&redis, "DEL users:t:odd").await;
    let (other, _) = users(&server.url()).await;
    assert_eq!(load(&other, 1, "newest").await, "newest");
}

#[tokio::test]
async fn what_any_other_client_writes_is_heard_of() {
    let server = RedisServer::start().await;
    let (one, _) = users(&server.url()).await;
    let redis = redis(&server).await;
    for line in
        ["DEL users:k:1", "SET users:k:1 garbage", "PEXPIRE users:k:1 0", "RENAME users:k:1 elsewhere"]
    {
        load(&one, 1, "old").await;
        assert!(one.get(&1).is_some());
        run(&redis, line).await;
        until(SOON, || one.get(&1).is_none()).await;
        assert_eq!(load(&one, 1, "new").await, "new", "{line}");
        one.invalidate(&1).await.unwrap();
    }
    // Redis tells of it, and the driver does not: once a second it is asked.
    for line in ["FLUSHALL", "FLUSHDB", "DEL users:era"] {
        load(&one, 1, "old").await;
        run(&redis, line).await;
        until(ms(2_500), || one.get(&1).is_none()).await;
        load(&one, 1, "new").await;
        run(&redis, "DEL users:k:1").await;
        until(SOON, || one.get(&1).is_none()).await;
    }
    assert_eq!(one.stats().store_errors, 0);
}

/// A key whose text is not always read back.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Odd(u64);

impl Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Odd {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        assert_ne!(text, "13", "a defect of the user's");
        text.parse().map(Self)
    }
}

#[tokio::test]
async fn a_key_that_panics_when_it_is_read_costs_memory_and_no_coherence() {
    let server = RedisServer::start().await;
    let config = crate::support::config(&server.url());
    let store = buttress_redis::cache::RedisStore::connect(config, "odd").await.unwrap();
    let cache = buttress_cache::Cache::<Odd, u64>::builder("odd").store(store).build();
    let redis = redis(&server).await;
    for key in [13, 14, 13, 14] {
        cache.get_or_load(Odd(key), || ready(Ok::<_, BoxError>(key))).await.unwrap();
        assert_eq!(cache.get(&Odd(key)), Some(key));
        run(&redis, &format!("DEL odd:k:{key}")).await;
        until(SOON, || cache.get(&Odd(key)).is_none()).await;
    }
}

/// What is dropped, be it by a panic, calls nothing of the user's that may panic.
#[tokio::test]
async fn a_write_that_is_dropped_does_not_read_its_key() {
    let server = RedisServer::start().await;
    let config = crate::support::config(&server.url());
    let store = buttress_redis::cache::RedisStore::connect(config, "odd").await.unwrap();
    let cache = buttress_cache::Cache::<Odd, u64>::builder("odd").store(store).build();
    for turns in 0..20 {
        cache.insert(Odd(13), 1).await.unwrap();
        drop_after(turns, cache.invalidate(&Odd(13))).await;
        drop_after(turns, cache.insert(Odd(13), 2)).await;
    }
    let unwound = tokio::spawn({
        let cache = cache.clone();
        async move {
            let key = Odd(13);
            let mut call = Box::pin(cache.invalidate(&key));
            assert!(poll_once(call.as_mut()).await.is_pending());
            panic!("while a write is on its way");
        }
    });
    let panic = unwound.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"while a write is on its way"));
    // Until it has heard of all that, which reads the key where it may.
    sleep(ms(50)).await;
    cache.insert(Odd(13), 3).await.unwrap();
    assert_eq!(cache.get(&Odd(13)), Some(3));
}

/// Once.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx))).await
}

/// More than wait to be heard.
#[tokio::test]
async fn a_flood_of_writes_is_heard_of() {
    let server = RedisServer::start().await;
    let (one, watch) = users(&server.url()).await;
    for key in 0..5_000 {
        load(&one, key, "old").await;
    }
    let redis = redis(&server).await;
    let script = "for key = 0, 4999 do redis.call('DEL', 'users:k:' .. key) end";
    redis.send(buttress_redis::Command::new("EVAL").arg(script).arg(0)).await.unwrap();
    until(ms(2_000), || (0..5_000).all(|key| one.get(&key).is_none())).await;
    eprintln!("everything was forgotten {} times", watch.stats().flushes);
    assert_eq!(load(&one, 1, "new").await, "new");
    run(&redis, "DEL users:k:1").await;
    until(SOON, || one.get(&1).is_none()).await;
}

#[tokio::test]
async fn what_the_process_itself_writes_costs_it_no_memory() {
    let server = RedisServer::start().await;
    let (one, _) = users(&server.url()).await;
    for n in 0..10 {
        one.insert(1, n.to_string()).await.unwrap();
    }
    one.invalidate_tag("even").await.unwrap();
    sleep(ms(100)).await;
    assert_eq!(one.get(&1).as_deref(), Some("9"));
}

#[tokio::test]
async fn two_stores_of_different_names_know_nothing_of_each_other() {
    let server = RedisServer::start().await;
    let (one, _) = users(&server.url()).await;
    let named = async |name: &str| {
        let config = crate::support::config(&server.url());
        let store = buttress_redis::cache::RedisStore::connect(config, name).await.unwrap();
        crate::support::builder().store(store).build()
    };
    let others = [named("users:k").await, named("use").await, named("users%3Ak").await];
    load(&one, 1, "one").await;
    for other in &others {
        assert_eq!(load(other, 1, "other").await, "other");
        other.invalidate_tag("odd").await.unwrap();
        other.clear().await.unwrap();
    }
    sleep(ms(50)).await;
    assert_eq!(one.get(&1).as_deref(), Some("one"));
}

/// Two write the same key at the same time, again and again: whatever each remembers in the end is what Redis has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_write_the_same_key_agree_in_the_end() {
    let server = RedisServer::start().await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    for round in 0..100 {
        let writes = (0..6_u64).map(|n| {
            let cache = if n % 2 == 0 { one.clone() } else { other.clone() };
            tokio::spawn(async move {
                match n {
                    5 => cache.invalidate(&1).await.unwrap(),
                    4 => _ = load(&cache, 1, &format!("{round} loaded")).await,
                    n => cache.insert(1, format!("{round} {n}")).await.unwrap(),
                }
            })
        });
        let writes: Vec<_> = writes.collect();
        for write in writes {
            write.await.unwrap();
        }
        let fresh = builder_of(&server).await;
        let fresh = fresh.get_or_load(1, || ready(Ok::<_, BoxError>("none".to_owned()))).await.unwrap();
        let agree = || [one.get(&1), other.get(&1)].into_iter().flatten().all(|value| value == fresh);
        until(SOON, agree).await;
        sleep(ms(1)).await;
        assert!(agree());
    }
}

async fn builder_of(server: &RedisServer) -> crate::support::Users {
    crate::support::builder().store(store(&server.url()).await).build()
}

/// What Redis tells a process of its own writes is not heeded: it has to know of them itself, also where nobody waited for their
/// end.
#[tokio::test]
async fn a_write_whose_caller_went_away_is_not_forgotten_about() {
    let server = RedisServer::start().await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    for turns in 0..200 {
        one.insert(1, "old".into()).await.unwrap();
        drop_after(turns, one.insert(1, "new".into())).await;
        sleep(ms(2)).await;
        let stored = load(&other, 1, "none").await;
        assert!(one.get(&1).is_none_or(|value| value == stored), "{turns}: {:?}, {stored}", one.get(&1));
        drop_after(turns, one.invalidate(&1)).await;
        let again = load(&one, 1, "again").await;
        sleep(ms(2)).await;
        let stored = load(&other, 1, "none").await;
        assert!(one.get(&1).is_none_or(|value| value == stored), "{turns}: {again}, {stored}");
        load(&one, 1, "odd").await;
        drop_after(turns, one.invalidate_tag("odd")).await;
        sleep(ms(2)).await;
        let stored = load(&other, 1, "none").await;
        assert!(one.get(&1).is_none_or(|value| value == stored), "{turns}: {stored}");
    }
}

/// Its tasks and its connection end with the cache.
#[tokio::test]
async fn nothing_is_left_of_a_cache_that_was_dropped() {
    let server = RedisServer::start().await;
    let redis = redis(&server).await;
    let clients = async || {
        let clients = run(&redis, "CLIENT LIST TYPE normal").await.convert::<String>().unwrap();
        clients.lines().count()
    };
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (tasks_before, before) = (tasks(), clients().await);
    let mut caches = Vec::new();
    for _ in 0..5 {
        let (cache, _) = users(&server.url()).await;
        load(&cache, 1, "one").await;
        caches.push(cache);
    }
    assert_eq!(clients().await, before + 5);
    drop(caches);
    for _ in 0..200 {
        if clients().await == before && tasks() == tasks_before {
            return;
        }
        sleep(ms(10)).await;
    }
    panic!("{} clients, {} tasks", clients().await, tasks());
}
