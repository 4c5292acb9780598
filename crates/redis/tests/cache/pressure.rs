//! Redis forgets: what it holds, and who is to be told of what.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_testkit::RedisServer;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::{Users, counter, load, ms, redis, run, slow, until, users};

/// Where it can remember so few, it tells who remembers: also the one whose own command it was that was too much.
#[tokio::test]
async fn what_redis_no_longer_remembers_is_forgotten() {
    let server = RedisServer::start().await;
    run(&redis(&server).await, "CONFIG SET tracking-table-max-keys 10").await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    for key in 0..100 {
        load(&one, key, "old").await;
    }
    let kept = || (0..100).filter(|key| one.get(key).is_some()).count();
    until(ms(500), || kept() <= 12).await;
    for key in 0..100 {
        other.insert(key, "new".into()).await.unwrap();
    }
    until(ms(500), || (0..100).all(|key| one.get(&key).is_none_or(|value| value == "new"))).await;
}

#[tokio::test]
async fn what_redis_evicts_is_forgotten_also_by_the_one_who_wrote_it() {
    for policy in ["volatile-lru", "allkeys-lru", "allkeys-random"] {
        let server = RedisServer::start().await;
        let redis = redis(&server).await;
        let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
        let info: String = run(&redis, "INFO memory").await.convert().unwrap();
        let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        let limit = used.trim().parse::<u64>().unwrap() + 600_000;
        run(&redis, &format!("CONFIG SET maxmemory-policy {policy}")).await;
        run(&redis, &format!("CONFIG SET maxmemory {limit}")).await;
        let old = "x".repeat(5_000);
        for key in 0..300 {
            load(&one, key, &old).await;
        }
        sleep(ms(100)).await;
        let mut evicted = 0;
        for key in 0..300 {
            if run(&redis, &format!("EXISTS users:k:{key}")).await.convert::<u32>().unwrap() == 0 {
                evicted += 1;
                other.insert(key, "new".into()).await.unwrap();
                until(ms(500), || one.get(&key).is_none_or(|value| value != old)).await;
            }
        }
        assert!(evicted > 50, "{policy}: {evicted}");
        assert_eq!((one.stats().store_errors, other.stats().store_errors), (0, 0), "{policy}");
    }
}

/// It asks again then, instead of waiting until the lease must have ended.
#[tokio::test]
async fn a_waiter_that_redis_no_longer_remembers_is_not_left_waiting() {
    let server = RedisServer::start().await;
    run(&redis(&server).await, "CONFIG SET tracking-table-max-keys 5").await;
    let ((one, _), (other, watch)) = (users(&server.url()).await, users(&server.url()).await);
    for round in 0..5_u64 {
        let at = |call: JoinHandle<String>| async move { (call.await.unwrap(), Instant::now()) };
        let loads = counter();
        let (holder, loaded) = (one.clone(), Arc::clone(&loads));
        let holder = tokio::spawn(async move { slow(&holder, round, "value", ms(300), &loaded).await });
        until(ms(500), || loads.load(Relaxed) == 1).await;
        let (waits, waiter) = (watch.stats().waits, other.clone());
        let waiter = tokio::spawn(async move { load(&waiter, round, "mine").await });
        until(ms(500), || watch.stats().waits > waits).await;
        for key in 0..100 {
            load(&other, 1_000 + 100 * round + key, "x").await;
        }
        let ((_, stored), (value, heard)) = tokio::join!(at(holder), at(waiter));
        let late = heard.saturating_duration_since(stored);
        assert!(value == "value" && late < ms(300), "{value}, {late:?}");
    }
}

/// A process knows its own writes, of loads and insertions, and forgets nothing for them. Another's, told just before or after,
/// are none of them.
#[tokio::test]
async fn a_process_tells_its_own_writes_from_those_of_others() {
    let server = RedisServer::start().await;
    let ((one, watch), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    for n in 0..200 {
        one.insert(1, n.to_string()).await.unwrap();
        one.insert(3, n.to_string()).await.unwrap();
        assert_eq!(load(&other, 1, "none").await, n.to_string());
    }
    sleep(ms(50)).await;
    assert_eq!((one.get(&1).as_deref(), one.get(&3).as_deref()), (Some("199"), Some("199")));
    let hits = one.stats().store_hits;
    let redis = redis(&server).await;
    for n in 0..200 {
        one.insert(1, n.to_string()).await.unwrap();
        let (own, others) = tokio::join!(one.insert(3, "mine".into()), other.insert(1, "theirs".into()));
        own.and(others).unwrap();
        until(ms(500), || one.get(&1).is_none()).await;
        assert_eq!(one.get(&3).as_deref(), Some("mine"));
    }
    assert_eq!((one.stats().store_hits, watch.stats().flushes), (hits, 0));
    for mark in ["users:own", "users:own:1"] {
        assert_eq!(run(&redis, &format!("EXISTS {mark}")).await.convert::<u32>().unwrap(), 0);
    }
}

async fn expires(cache: &Users, key: u64) {
    let begin = Instant::now();
    while cache.get(&key).is_some() {
        assert!(begin.elapsed() < Duration::from_secs(2));
        sleep(ms(5)).await;
    }
}

/// Loading a value anew, over the old one that it remembers, is no write that it would have to forget.
#[tokio::test]
async fn a_value_that_is_loaded_anew_stays_in_memory() {
    let server = RedisServer::start().await;
    let store = crate::support::store(&server.url()).await;
    let one = crate::support::builder().ttl(ms(200)).store(store).build();
    for n in 0..10 {
        let value = n.to_string();
        load(&one, 1, &value).await;
        sleep(ms(20)).await;
        assert_eq!(one.get(&1), Some(value));
        expires(&one, 1).await;
    }
}

/// Without memory for more, Redis takes no values: what would be stale is taken away, each process has its own, and is told of
/// what the others write.
#[tokio::test]
async fn the_memories_go_on_and_agree_while_redis_is_full() {
    let server = RedisServer::start().await;
    let ((one, watch), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    load(&one, 1, "old").await;
    load(&other, 1, "none").await;
    let redis = redis(&server).await;
    run(&redis, "CONFIG SET maxmemory 1").await;
    one.insert(1, "new".into()).await.unwrap();
    until(ms(500), || other.get(&1).is_none()).await;
    assert_eq!(load(&other, 1, "other").await, "other", "the old one is not read back");
    assert_eq!(one.get(&1).as_deref(), Some("new"));
    let loads = counter();
    for _ in 0..10 {
        for key in 10..110 {
            slow(&one, key, "old", ms(0), &loads).await;
        }
        sleep(ms(150)).await;
    }
    assert_eq!(loads.load(Relaxed), 100, "each was loaded once");
    for key in 10..110 {
        load(&other, key, "old").await;
    }
    one.insert(11, "new".into()).await.unwrap();
    one.invalidate(&13).await.unwrap();
    until(ms(500), || other.get(&11).is_none() && other.get(&13).is_none()).await;
    one.invalidate_tag("odd").await.unwrap();
    until(ms(500), || other.get(&15).is_none()).await;
    assert!(other.get(&16).is_some());
    one.clear().await.unwrap();
    until(ms(500), || other.get(&16).is_none()).await;
    run(&redis, "CONFIG SET maxmemory 0").await;
    assert_eq!(load(&one, 2, "shared").await, "shared");
    assert_eq!(load(&other, 2, "none").await, "shared");
    assert_eq!((one.stats().store_errors, other.stats().store_errors), (0, 0));
    assert!(watch.stats().unstorable > 100, "{:?}", watch.stats());
}
