//! Whatever stands in Redis: at worst it is a miss.

use std::time::Duration;

use buttress_redis::Command;
use buttress_testkit::RedisServer;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::support::{load, redis, run, users};

/// Something that looks like an entry more or less, at a time far ahead.
fn entry() -> impl Strategy<Value = Vec<u8>> {
    let number = || {
        prop_oneof![
            4 => Just("0".to_owned()),
            4 => Just("9007199254740991".to_owned()),
            2 => any::<u64>().prop_map(|number| number.to_string()),
            1 => "[0-9]{1,40}",
            1 => "[-0-9a-fx.]{0,6}",
        ]
    };
    let version = prop_oneof![5 => Just("0".to_owned()), 1 => number()];
    // Nothing for what is true.
    let or_wrong = |most: u32| {
        prop_oneof![
            6 => Just(None),
            1 => (0..most).prop_map(|number| Some(number.to_string())),
            1 => number().prop_map(Some),
        ]
    };
    let (count, length) = (or_wrong(70), or_wrong(5));
    let tag =
        (length, prop_oneof![4 => Just(b"odd".to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..6)]);
    let tags = prop_oneof![2 => Just(vec![]), 3 => prop::collection::vec(tag, 0..4)];
    let body = prop_oneof![
        3 => Just(b"\xa3old".to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => Just(b"\xdb\xff\xff\xff\xff".to_vec()),
        1 => Just(vec![0x91; 100_000]),
    ];
    let head = (version, number(), number(), number(), count);
    (head, tags, body, any::<prop::sample::Index>(), 0..20_u8).prop_map(|(head, tags, body, at, change)| {
        let (version, fresh, stale, number, count) = head;
        let count = count.unwrap_or_else(|| tags.len().to_string());
        let mut bytes = format!("bc1;{version};{fresh};{stale};{number};{count};").into_bytes();
        for (length, tag) in tags {
            let length = length.unwrap_or_else(|| tag.len().to_string());
            bytes.extend([length.as_bytes(), b":", &tag].concat());
        }
        bytes.extend(body);
        let at = at.index(bytes.len());
        match change {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 0x55,
            2 => bytes.insert(at, b';'),
            _ => {}
        }
        bytes
    })
}

#[tokio::test]
async fn hostile_bytes_are_a_miss_or_a_value_and_never_a_failure() {
    let server = RedisServer::start().await;
    let redis = redis(&server).await;
    // One that makes none of them old, of this run of the server.
    let info: String = run(&redis, "INFO server").await.convert().unwrap();
    let server_run = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap().trim();
    run(&redis, &format!("SET users:era 0:5:{server_run}")).await;
    let (cache, watch) = users(&server.url()).await;
    let mut runner = TestRunner::new(Config::default());
    let (mut found, mut missed) = (0, 0);
    run(&redis, "SET users:t:odd 3").await;
    for _ in 0..2_000 {
        let bytes = entry().new_tree(&mut runner).unwrap().current();
        // A memory that remembers nothing of the round before.
        cache.invalidate(&2).await.unwrap();
        redis.send(Command::set("users:k:2", bytes.clone())).await.unwrap();
        let value = load(&cache, 2, "new").await;
        if value == "new" {
            missed += 1
        } else {
            found += 1
        }
        assert!(value == "new" || value.len() < 40, "{bytes:?}");
        assert_eq!(cache.stats().store_errors, 0, "{bytes:?}");
        run(&redis, "DEL users:l:2").await;
    }
    assert!(
        found > 50 && missed > 500 && watch.stats().unreadable > 500,
        "{found}, {missed}, {:?}",
        watch.stats()
    );
}

#[tokio::test]
async fn what_is_no_string_is_a_miss_and_replaced() {
    let server = RedisServer::start().await;
    let ((cache, watch), redis) = (users(&server.url()).await, redis(&server).await);
    for (n, line) in ["RPUSH users:k:1 a b", "HSET users:k:1 a b", "SADD users:k:1 a", "ZADD users:k:1 1 a"]
        .into_iter()
        .enumerate()
    {
        cache.invalidate(&1).await.unwrap();
        run(&redis, line).await;
        assert_eq!(load(&cache, 1, "new").await, "new");
        assert_eq!(watch.stats().unreadable, n as u64 + 1);
        let (other, _) = users(&server.url()).await;
        assert_eq!(load(&other, 1, "none").await, "new");
    }
    assert_eq!(cache.stats().store_errors, 0);
}

/// One that is nobody's lease is no one's, and no endless wait.
#[tokio::test]
async fn a_lock_that_is_not_ours_is_overwritten() {
    let server = RedisServer::start().await;
    let ((cache, _), redis) = (users(&server.url()).await, redis(&server).await);
    let lines = [
        "SET users:l:1 forever",
        "SET users:l:1 long PX 100000000",
        "RPUSH users:l:1 a b",
        "HSET users:l:1 a b",
    ];
    for line in lines {
        cache.invalidate(&1).await.unwrap();
        run(&redis, line).await;
        let loaded = tokio::time::timeout(Duration::from_millis(500), load(&cache, 1, "new")).await;
        assert_eq!(loaded.unwrap(), "new", "{line}");
        let (other, _) = users(&server.url()).await;
        assert_eq!(load(&other, 1, "none").await, "new", "{line}: it is stored, and the lock given back");
    }
    assert_eq!(cache.stats().store_errors, 0);
}

/// A lock that becomes another's while it is held, of whatever kind.
#[tokio::test]
async fn a_lock_that_is_replaced_by_anything_is_lost() {
    let server = RedisServer::start().await;
    let ((cache, watch), redis) = (users(&server.url()).await, redis(&server).await);
    let load = async || {
        run(&redis, "DEL users:l:1").await;
        run(&redis, "RPUSH users:l:1 a b").await;
        Ok::<_, buttress_core::BoxError>("new".to_owned())
    };
    assert_eq!(cache.get_or_load(1, load).await.unwrap(), "new");
    assert_eq!((watch.stats().refused, cache.stats().store_errors), (1, 0));
}

#[tokio::test]
async fn numbers_that_are_no_strings_count_as_lost() {
    let replaced = [("users:t:odd", "LPUSH"), ("users:era", "LPUSH"), ("users:tags", "SET")];
    for (key, verb) in replaced {
        let server = RedisServer::start().await;
        let ((cache, _), redis) = (users(&server.url()).await, redis(&server).await);
        let script = format!("redis.call('DEL', '{key}') redis.call('{verb}', '{key}', 'x')");
        let spoil = async || redis.send(Command::new("EVAL").arg(&script).arg(0)).await.unwrap();
        load(&cache, 1, "old").await;
        spoil().await;
        let (other, _) = users(&server.url()).await;
        let found = load(&other, 1, "new").await;
        assert_eq!(found, if key == "users:tags" { "old" } else { "new" }, "{key}");
        for _ in 0..2 {
            spoil().await;
            cache.invalidate_tag("odd").await.unwrap();
            spoil().await;
            cache.insert(5, "five".into()).await.unwrap();
            spoil().await;
            cache.invalidate(&5).await.unwrap();
            spoil().await;
            load(&cache, 7, "seven").await;
            spoil().await;
            cache.clear().await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        spoil().await;
        load(&cache, 9, "nine").await;
        assert_eq!((cache.stats().store_errors, other.stats().store_errors), (0, 0), "{key}");
        // And it heals: what is invalidated from now on is heard of.
        load(&other, 3, "old").await;
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        load(&other, 3, "old").await;
        cache.invalidate_tag("odd").await.unwrap();
        crate::support::until(Duration::from_millis(500), || other.get(&3).is_none()).await;
    }
}

#[tokio::test]
async fn a_tag_that_is_no_text_is_a_miss() {
    let server = RedisServer::start().await;
    let ((cache, watch), redis) = (users(&server.url()).await, redis(&server).await);
    redis.send(Command::set(&b"users:t:\xff"[..], "0")).await.unwrap();
    let entry = b"bc1;0;9007199254740991;0;9007199254740991;1;1:\xff\xa3old";
    redis.send(Command::set("users:k:1", &entry[..])).await.unwrap();
    assert_eq!(load(&cache, 1, "new").await, "new");
    assert_eq!((watch.stats().unreadable, cache.stats().store_errors), (1, 0));
}
