//! Redis goes away, and comes back.

use std::{future::ready, sync::atomic::Ordering::Relaxed, time::Duration};

use buttress_cache::Cache;
use buttress_core::{BoxError, Deadline};
use buttress_redis::cache::RedisStore;
use buttress_testkit::{Fault, FaultProxy, RedisServer};
use tokio::time::{Instant, sleep};

use crate::support::{Users, builder, config, counter, load, ms, slow, store, until, users};

/// Until a cache uses its store again: what one loads another finds.
async fn until_shared(one: &Users, other: &Users, first: u64) {
    let begin = Instant::now();
    for key in first.. {
        load(one, key, "one").await;
        if load(other, key, "other").await == "one" {
            return;
        }
        assert!(begin.elapsed() < ms(6_000), "it is not used again");
        sleep(ms(50)).await;
    }
}

#[tokio::test]
async fn memory_goes_on_without_redis_and_is_forgotten_when_it_is_back() {
    let server = RedisServer::start().await;
    let ((one, watch), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    load(&one, 1, "old").await;
    load(&other, 1, "none").await;
    server.kill().await;
    sleep(ms(50)).await;
    assert_eq!((load(&one, 1, "none").await, load(&other, 1, "none").await), ("old".into(), "old".into()));
    // Nobody else knows now: one load a key in each process.
    let loads = counter();
    let begin = Instant::now();
    let calls = (0..64_u64).map(|n| {
        let (one, loads) = (one.clone(), loads.clone());
        tokio::spawn(async move { slow(&one, 100 + n % 4, "alone", ms(50), &loads).await })
    });
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap(), "alone");
    }
    assert_eq!(loads.load(Relaxed), 4);
    assert!(begin.elapsed() < ms(1_500), "{:?}", begin.elapsed());
    assert!(one.invalidate(&1).await.is_err(), "the others did not hear of it");
    let flushes = watch.stats().flushes;
    server.restart().await;
    until(ms(3_000), || watch.stats().flushes > flushes).await;
    assert!(one.get(&100).is_none() && one.get(&101).is_none(), "nobody would have told of those");
    until(ms(3_000), || other.get(&1).is_none()).await;
    until_shared(&one, &other, 1_000).await;
    // And Redis tells again.
    load(&one, 2, "old").await;
    load(&other, 2, "none").await;
    other.insert(2, "new".into()).await.unwrap();
    until(ms(500), || one.get(&2).is_none()).await;
}

#[tokio::test]
async fn what_was_written_while_a_process_was_cut_off_is_not_missed() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let (cut_off, _) = users(&format!("redis://{}", proxy.addr())).await;
    let (other, _) = users(&server.url()).await;
    for round in 0..10 {
        let value = format!("round {round}");
        until_shared(&other, &cut_off, 1_000 + 100 * round).await;
        load(&cut_off, 1, "old").await;
        if round % 2 == 0 {
            proxy.set(Fault::Refuse);
        }
        proxy.cut();
        other.insert(1, value.clone()).await.unwrap();
        other.invalidate_tag("even").await.unwrap();
        proxy.set(Fault::Pass);
        // What it remembers goes as soon as it is connected again; the new value comes from the store or a load, never the old.
        until(ms(2_000), || cut_off.get(&1).is_none()).await;
        assert_ne!(load(&cut_off, 1, "loaded").await, "old");
    }
}

#[tokio::test]
async fn a_load_during_which_the_connection_is_cut_is_served_and_not_remembered_wrongly() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let (cut_off, _) = users(&format!("redis://{}", proxy.addr())).await;
    let (other, _) = users(&server.url()).await;
    for (round, wait) in [0, 1, 5, 20, 100, 200, 400].into_iter().enumerate() {
        let key = round as u64;
        let loads = async || {
            proxy.cut();
            other.insert(key, "new".into()).await.unwrap();
            sleep(ms(wait)).await;
            Ok::<_, BoxError>("old".to_owned())
        };
        assert_eq!(cut_off.get_or_load(key, loads).await.unwrap(), "old");
        let is_true = || cut_off.get(&key).is_none_or(|value| value == "new");
        until(ms(2_000), is_true).await;
        sleep(ms(1_200)).await;
        assert_ne!(load(&cut_off, key, "loaded").await, "old", "{wait}");
        sleep(ms(10)).await;
    }
}

#[tokio::test]
async fn who_waits_for_anothers_load_goes_on_when_redis_dies() {
    let server = RedisServer::start().await;
    let ((one, _), (other, watch)) = (users(&server.url()).await, users(&server.url()).await);
    let loads = counter();
    let holder = tokio::spawn({
        let (one, loads) = (one.clone(), loads.clone());
        async move { slow(&one, 1, "one", ms(4_000), &loads).await }
    });
    until(ms(500), || loads.load(Relaxed) == 1).await;
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { load(&other, 1, "other").await }
    });
    until(ms(500), || watch.stats().waits == 1).await;
    let begin = Instant::now();
    server.kill().await;
    assert_eq!(waiting.await.unwrap(), "other");
    assert!(begin.elapsed() < ms(1_500), "{:?}", begin.elapsed());
    holder.abort();
}

/// Nothing is answered, and nothing is closed.
#[tokio::test]
async fn a_black_hole_costs_a_time_limit_and_no_more() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let limited = config(&format!("redis://{}", proxy.addr())).with_command_timeout(ms(200));
    let store = RedisStore::connect(limited, "users").await.unwrap();
    let one: Users = builder().store(store).build();
    let (other, _) = users(&server.url()).await;
    load(&one, 1, "old").await;
    proxy.set(Fault::BlackHole);
    let begin = Instant::now();
    for key in 2..50 {
        assert_eq!(load(&one, key, "alone").await, "alone");
    }
    assert!(begin.elapsed() < ms(500), "{:?}", begin.elapsed());
    assert_eq!(one.get(&1).as_deref(), Some("old"), "for its time");
    other.insert(1, "new".into()).await.unwrap();
    proxy.set(Fault::Pass);
    proxy.cut();
    until(ms(3_000), || one.get(&1).is_none()).await;
    until_shared(&other, &one, 1_000).await;
    assert_eq!(load(&one, 1, "none").await, "new");
}

#[tokio::test]
async fn nothing_is_served_beyond_its_time_without_redis() {
    let server = RedisServer::start().await;
    let one = builder().ttl(ms(1_000)).store(store(&server.url()).await).build();
    let begin = Instant::now();
    load(&one, 1, "old").await;
    server.kill().await;
    while begin.elapsed() < ms(900) {
        assert_eq!(load(&one, 1, "new").await, "old");
        sleep(ms(10)).await;
    }
    sleep(ms(110)).await;
    assert_eq!(load(&one, 1, "new").await, "new");
}

#[tokio::test]
async fn a_store_without_a_server_at_the_start_is_used_when_there_is_one() {
    let server = RedisServer::start().await;
    server.kill().await;
    let begin = Instant::now();
    let limited = config(&server.url()).with_command_timeout(ms(200));
    let one: Users = builder().store(RedisStore::connect(limited, "users").await.unwrap()).build();
    assert!(begin.elapsed() < ms(1_400), "{:?}", begin.elapsed());
    assert_eq!(load(&one, 1, "alone").await, "alone");
    server.restart().await;
    let (other, _) = users(&server.url()).await;
    until_shared(&one, &other, 100).await;
    until(ms(100), || one.get(&1).is_none()).await;
}

/// What was loaded while the store was left alone, after one slow answer on a connection that stays, is not kept for ever:
/// Redis does not know of it.
#[tokio::test]
async fn what_was_loaded_while_the_store_was_left_alone_is_forgotten() {
    let server = RedisServer::start().await;
    let limited = config(&server.url()).with_command_timeout(ms(100));
    let one: Users = builder().store(RedisStore::connect(limited, "users").await.unwrap()).build();
    let (other, _) = users(&server.url()).await;
    load(&one, 1, "first").await;
    server.pause();
    assert_eq!(load(&one, 2, "alone").await, "alone");
    server.resume();
    assert_eq!(load(&one, 4, "alone too").await, "alone too");
    assert_eq!((one.stats().store_errors, one.get(&2).is_some(), one.get(&4).is_some()), (1, true, true));
    sleep(ms(1_100)).await;
    load(&one, 5, "five").await;
    assert_eq!((one.get(&2), one.get(&4)), (None, None));
    load(&one, 5, "five").await;
    other.insert(5, "new".into()).await.unwrap();
    until(ms(500), || one.get(&5).is_none()).await;
}

/// Also where nobody asks the store for anything any more.
#[tokio::test]
async fn what_was_loaded_without_the_store_is_forgotten_by_who_only_hits() {
    let server = RedisServer::start().await;
    let limited = config(&server.url()).with_command_timeout(ms(100));
    let one: Users = builder().store(RedisStore::connect(limited, "users").await.unwrap()).build();
    let (other, _) = users(&server.url()).await;
    load(&one, 1, "first").await;
    server.pause();
    assert_eq!(load(&one, 2, "old").await, "old");
    server.resume();
    sleep(ms(100)).await;
    other.insert(2, "new".into()).await.unwrap();
    assert_eq!(one.get(&2).as_deref(), Some("old"), "Redis does not know that it is remembered");
    let begin = Instant::now();
    while load(&one, 2, "loaded").await == "old" {
        assert!(begin.elapsed() < ms(3_000));
        sleep(ms(10)).await;
    }
    assert_eq!(load(&one, 2, "loaded").await, "new");
}

/// Half of a caller's time is for the store: with the other one he loads.
#[tokio::test]
async fn who_has_less_time_than_a_slow_redis_needs_is_served() {
    for hangs in [false, true] {
        let server = RedisServer::start().await;
        let proxy = FaultProxy::start(server.addr()).await;
        let (one, _) = users(&format!("redis://{}", proxy.addr())).await;
        load(&one, 1, "before").await;
        if hangs {
            server.pause();
        } else {
            proxy.set(Fault::Latency(ms(400)));
        }
        let begin = Instant::now();
        for key in 10..20 {
            let loads = async || match Deadline::has_expired() {
                true => Err::<_, BoxError>("no time is left".into()),
                false => Ok("value".to_owned()),
            };
            let loaded = Deadline::after(ms(300)).scope(one.get_or_load(key, loads)).await;
            assert_eq!(loaded.unwrap(), "value");
        }
        assert!(begin.elapsed() < ms(500), "{:?}", begin.elapsed());
        assert_eq!(one.stats().store_errors, 1, "and is left alone for a while");
        server.resume();
    }
}

/// That he has too little says nothing of Redis, and costs the others nothing.
#[tokio::test]
async fn who_has_hardly_any_time_is_no_failure_of_the_store() {
    let server = RedisServer::start().await;
    let (one, watch) = users(&server.url()).await;
    load(&one, 1, "before").await;
    server.pause();
    let loaded = Deadline::after(ms(15)).scope(one.get_or_load(2, || ready(Ok::<_, BoxError>("two".into()))));
    assert_eq!(loaded.await.unwrap(), "two");
    server.resume();
    sleep(ms(1_500)).await;
    assert_eq!((one.get(&1).as_deref(), one.get(&2)), (Some("before"), None));
    assert_eq!((one.stats().store_errors, watch.stats().flushes), (0, 0));
}

#[tokio::test]
async fn storing_takes_no_longer_than_the_deadline() {
    let server = RedisServer::start().await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    load(&one, 1, "before").await;
    let loads = async || {
        server.pause();
        Ok::<_, BoxError>("value".to_owned())
    };
    let begin = Instant::now();
    assert_eq!(Deadline::after(ms(100)).scope(one.get_or_load(2, loads)).await.unwrap(), "value");
    assert!(begin.elapsed() < ms(200), "{:?}", begin.elapsed());
    assert_eq!(one.get(&2), None, "whether it is stored was not known");
    server.resume();
    assert_eq!(load(&other, 2, "none").await, "value", "it is stored all the same");
}

/// Nor does the wait for a connection that is being made.
#[tokio::test]
async fn a_connection_is_not_waited_for_beyond_the_deadline() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let (one, _) = users(&format!("redis://{}", proxy.addr())).await;
    load(&one, 1, "before").await;
    proxy.set(Fault::Latency(ms(150)));
    proxy.cut();
    for key in 10..110 {
        let begin = Instant::now();
        let call = one.get_or_load(key, || ready(Ok::<_, BoxError>("value".to_owned())));
        assert_eq!(Deadline::after(ms(40)).scope(call).await.unwrap(), "value");
        assert!(begin.elapsed() < ms(80), "{:?}", begin.elapsed());
        sleep(ms(10)).await;
    }
}

/// One that is slow does not hold up who does not need it.
#[tokio::test]
async fn a_hit_never_waits_for_redis() {
    let server = RedisServer::start().await;
    let store: RedisStore<u64, u64> = RedisStore::connect(config(&server.url()), "numbers").await.unwrap();
    let cache = Cache::builder("numbers").store(store).build();
    cache.get_or_load(1, || ready(Ok::<_, BoxError>(1))).await.unwrap();
    server.pause();
    let begin = Instant::now();
    for _ in 0..1_000 {
        assert_eq!(cache.get_or_load(1, || ready(Ok::<_, BoxError>(2))).await.unwrap(), 1);
    }
    server.resume();
    assert!(begin.elapsed() < Duration::from_millis(100));
}
