//! One load of a key among all processes, and what becomes of it when its process goes away.

use std::{future::pending, sync::atomic::Ordering::Relaxed, time::Duration};

use buttress_core::{BoxError, Deadline};
use buttress_testkit::RedisServer;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::support::{Users, builder, counter, drop_after, load, ms, redis, run, slow, store, until, users};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_callers_in_two_processes_load_once() {
    let server = RedisServer::start().await;
    let ((one, watch), (other, other_watch)) = (users(&server.url()).await, users(&server.url()).await);
    for round in 0..20 {
        let loads = counter();
        let calls = (0..64).map(|n| {
            let (cache, loads) = (if n % 2 == 0 { one.clone() } else { other.clone() }, loads.clone());
            tokio::spawn(async move { slow(&cache, round, &format!("by {n}"), ms(20), &loads).await })
        });
        let calls: Vec<_> = calls.collect();
        let mut values = Vec::new();
        for call in calls {
            values.push(call.await.unwrap());
        }
        assert_eq!(loads.load(Relaxed), 1);
        assert!(values.iter().all(|value| *value == values[0]));
        assert_eq!(
            (one.get(&round).as_ref(), other.get(&round).as_ref()),
            (Some(&values[0]), Some(&values[0]))
        );
    }
    let (waits, other_waits) = (watch.stats().waits, other_watch.stats().waits);
    // A lock's end and a timer at most: nobody asks again and again.
    assert!(waits + other_waits >= 20 && waits + other_waits <= 30, "{waits}, {other_waits}");
    assert_eq!((one.stats().store_errors, other.stats().store_errors), (0, 0));
}

/// A load that never ends, in a task of its own.
async fn hang(cache: &Users, key: u64) -> tokio::task::JoinHandle<()> {
    let (begun, has_begun) = oneshot::channel();
    let cache = cache.clone();
    let task = tokio::spawn(async move {
        let load = async move || {
            begun.send(()).unwrap();
            pending::<Result<String, BoxError>>().await
        };
        let _ = cache.get_or_load(key, load).await;
    });
    has_begun.await.unwrap();
    task
}

#[tokio::test]
async fn a_leader_that_is_dropped_hands_over_at_once() {
    let server = RedisServer::start().await;
    let ((one, _), (other, watch)) = (users(&server.url()).await, users(&server.url()).await);
    let task = hang(&one, 1).await;
    let waiting = tokio::spawn({
        let other = other.clone();
        async move { load(&other, 1, "other").await }
    });
    until(ms(500), || watch.stats().waits == 1).await;
    let begin = Instant::now();
    task.abort();
    assert_eq!(waiting.await.unwrap(), "other");
    assert!(begin.elapsed() < ms(300), "{:?}", begin.elapsed());
    assert_eq!(load(&one, 1, "none").await, "other");
}

/// Redis does not tell a connection of what it writes itself.
#[tokio::test]
async fn it_does_so_in_its_own_process_too() {
    let server = RedisServer::start().await;
    let (one, watch) = users(&server.url()).await;
    for round in 0..50 {
        let task = hang(&one, round).await;
        // Every other time one that does not wait for the first one's flight, but for its lock.
        let waits = watch.stats().waits;
        if round % 2 == 0 {
            forgets(&one, &server, round).await;
        }
        let waiting = tokio::spawn({
            let one = one.clone();
            async move { load(&one, round, "next").await }
        });
        if round % 2 == 0 {
            until(ms(500), || watch.stats().waits > waits).await;
        }
        tokio::task::yield_now().await;
        let begin = Instant::now();
        task.abort();
        assert_eq!(waiting.await.unwrap(), "next");
        assert!(begin.elapsed() < ms(300), "{:?}", begin.elapsed());
    }
}

/// Its flights are on their own from now on, and what they load is not kept.
async fn forgets(cache: &Users, server: &RedisServer, key: u64) {
    let redis = redis(server).await;
    let before = cache.stats().invalidations;
    // It is told of a key that it remembers: of the era, which everybody does.
    run(&redis, "DEL users:era").await;
    until(ms(2_500), || cache.stats().invalidations > before).await;
    assert_eq!(run(&redis, &format!("EXISTS users:l:{key}")).await.convert::<u32>().unwrap(), 1);
}

#[tokio::test]
async fn a_load_that_failed_hands_over_at_once() {
    let server = RedisServer::start().await;
    let ((one, _), (other, watch)) = (users(&server.url()).await, users(&server.url()).await);
    let fails = async || {
        sleep(ms(100)).await;
        Err::<String, BoxError>("no".into())
    };
    let begin = Instant::now();
    let later = async {
        sleep(ms(20)).await;
        load(&other, 1, "other").await
    };
    let (failed, loaded) = tokio::join!(one.get_or_load(1, fails), later);
    assert!(failed.is_err());
    assert_eq!((loaded.as_str(), watch.stats().waits), ("other", 1));
    assert!(begin.elapsed() < ms(500), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_process_that_died_keeps_the_others_for_its_lease_at_most() {
    let server = RedisServer::start().await;
    let url = server.url();
    let (begun, has_begun) = oneshot::channel();
    // Its runtime ends, and nothing of it says goodbye.
    let (end, is_ended) = std::sync::mpsc::channel::<()>();
    let process = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.spawn(async move {
            let cache = builder().store(store(&url).await.with_lease(ms(1_000))).build();
            let load = async move || {
                begun.send(()).unwrap();
                pending::<Result<String, BoxError>>().await
            };
            let _ = cache.get_or_load(1, load).await;
        });
        is_ended.recv().unwrap();
        runtime.shutdown_background();
    });
    has_begun.await.unwrap();
    // So long that it was renewed.
    sleep(ms(1_500)).await;
    let redis = redis(&server).await;
    assert_eq!(run(&redis, "EXISTS users:l:1").await.convert::<u32>().unwrap(), 1);
    let (other, _) = users(&server.url()).await;
    end.send(()).unwrap();
    let begin = Instant::now();
    assert_eq!(load(&other, 1, "other").await, "other");
    assert!(begin.elapsed() < ms(1_200), "{:?}", begin.elapsed());
    process.join().unwrap();
}

#[tokio::test]
async fn a_lease_is_renewed_while_its_holder_lives() {
    let server = RedisServer::start().await;
    let cache = async || builder().store(store(&server.url()).await.with_lease(ms(300))).build();
    let (one, other, loads) = (cache().await, cache().await, counter());
    let begin = Instant::now();
    let later = async {
        sleep(ms(50)).await;
        slow(&other, 1, "other", ms(1_500), &loads).await
    };
    let (value, found) = tokio::join!(slow(&one, 1, "one", ms(1_500), &loads), later);
    assert_eq!((value.as_str(), found.as_str(), loads.load(Relaxed)), ("one", "one", 1));
    assert!(begin.elapsed() < ms(2_000));
    let redis = redis(&server).await;
    assert_eq!(run(&redis, "EXISTS users:l:1").await.convert::<u32>().unwrap(), 0, "it was given back");
}

#[tokio::test]
async fn a_lease_that_was_lost_stores_nothing() {
    let server = RedisServer::start().await;
    let ((one, watch), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    let redis = redis(&server).await;
    let steals = async || {
        run(&redis, "DEL users:l:1").await;
        assert_eq!(load(&other, 1, "other").await, "other");
        Ok::<_, BoxError>("one".to_owned())
    };
    assert_eq!(one.get_or_load(1, steals).await.unwrap(), "one", "it gets what it has loaded");
    assert_eq!((one.get(&1), watch.stats().refused), (None, 1));
    assert_eq!(load(&one, 1, "none").await, "other");
}

#[tokio::test]
async fn what_is_invalidated_while_it_is_loaded_is_not_stored() {
    let server = RedisServer::start().await;
    let ((one, watch), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    for _ in 0..2 {
        for (n, what) in ["key", "insertion", "tag", "everything", "other tag"].into_iter().enumerate() {
            let key = 2 * n as u64 + 1;
            let refused = watch.stats().refused;
            let load_it = async || {
                match what {
                    "key" => other.invalidate(&key).await.unwrap(),
                    "insertion" => other.insert(key, "inserted".into()).await.unwrap(),
                    "tag" => other.invalidate_tag("odd").await.unwrap(),
                    "everything" => other.clear().await.unwrap(),
                    _ => other.invalidate_tag("even").await.unwrap(),
                }
                Ok::<_, BoxError>("old".to_owned())
            };
            assert_eq!(one.get_or_load(key, load_it).await.unwrap(), "old", "he gets what he has loaded");
            if what == "other tag" {
                assert_eq!(one.get(&key).as_deref(), Some("old"), "{what}");
                assert_eq!(watch.stats().refused, refused);
            } else {
                assert_eq!(one.get(&key), None, "{what}");
                assert_eq!(watch.stats().refused, refused + 1, "{what}");
                let expected = if what == "insertion" { "inserted" } else { "new" };
                assert_eq!(load(&one, key, "new").await, expected, "{what}");
                assert_eq!(load(&other, key, "none").await, expected, "{what}");
            }
        }
        one.clear().await.unwrap();
        other.clear().await.unwrap();
    }
}

/// A tag that nothing had before is known not to have been invalidated, by the list of those that were.
#[tokio::test]
async fn what_has_a_new_tag_is_stored_while_other_tags_are_invalidated() {
    let server = RedisServer::start().await;
    let ((one, watch), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    for (key, invalidations) in [(1, 1), (2, 400), (3, 600)] {
        one.clear().await.unwrap();
        let redis = redis(&server).await;
        run(&redis, "DEL users:t:odd users:t:even").await;
        let loads = async || {
            for n in 0..invalidations {
                other.invalidate_tag(&format!("tag {n}")).await.unwrap();
            }
            Ok::<_, BoxError>("one".to_owned())
        };
        one.get_or_load(key, loads).await.unwrap();
        // The list has an end: whoever loads for so long loads once more.
        let is_known = invalidations <= 512;
        assert_eq!(watch.stats().refused, u64::from(!is_known), "{invalidations}");
        assert_eq!(load(&other, key, "other").await, if is_known { "one" } else { "other" });
    }
}

#[tokio::test]
async fn who_waits_does_so_until_his_deadline_and_keeps_nothing() {
    let server = RedisServer::start().await;
    let ((one, _), (other, watch)) = (users(&server.url()).await, users(&server.url()).await);
    let task = hang(&one, 1).await;
    let begin = Instant::now();
    let value = Deadline::after(ms(100)).scope(load(&other, 1, "by himself")).await;
    assert_eq!(value, "by himself");
    assert!(ms(80) < begin.elapsed() && begin.elapsed() < ms(300), "{:?}", begin.elapsed());
    assert_eq!((other.get(&1), other.stats().store_errors, watch.stats().waits), (None, 0, 1));
    // A caller without one waits, and one who goes away leaves nothing behind.
    let waits = timeout(ms(100), load(&other, 1, "none")).await;
    assert!(waits.is_err());
    task.abort();
    assert_eq!(timeout(ms(500), load(&other, 1, "other")).await.unwrap(), "other");
}

/// Somebody who asks and goes away, at any moment, leaves no lock behind.
#[tokio::test]
async fn a_call_that_is_dropped_at_any_moment_gives_the_key_back() {
    let server = RedisServer::start().await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    let never = || pending::<Result<String, BoxError>>();
    for turns in 0..200 {
        drop_after(turns, one.get_or_load(1, never)).await;
        let begin = Instant::now();
        assert_eq!(load(&other, 1, "other").await, "other");
        assert!(begin.elapsed() < ms(500), "after {turns} turns: {:?}", begin.elapsed());
        other.invalidate(&1).await.unwrap();
    }
}

/// The caller goes away while the value is stored: it is there for the next.
#[tokio::test]
async fn a_value_whose_caller_goes_away_is_stored_all_the_same() {
    let server = RedisServer::start().await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    let mut stored = 0;
    for key in 0..50 {
        let loaded = std::cell::Cell::new(false);
        let load_it = async || {
            loaded.set(true);
            Ok::<_, BoxError>("one".to_owned())
        };
        let mut call = Box::pin(one.get_or_load(key, load_it));
        // Until it is being stored, or is so already.
        while !loaded.get() {
            let _ = timeout(Duration::from_micros(50), &mut call).await;
        }
        drop(call);
        stored += u32::from(load(&other, key, "other").await == "one");
    }
    assert!(stored >= 45, "{stored}");
}
