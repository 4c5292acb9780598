//! A server whose data are older than what was known: of a snapshot, or a replica that had not heard of the last writes.

use buttress_redis::{Command, Redis};
use buttress_testkit::{Fault, FaultProxy, RedisServer};
use tokio::time::sleep;

use crate::support::{Users, load, ms, redis, run, until, users};

/// All that is there, as a snapshot has it.
async fn snapshot(redis: &Redis) -> Vec<(String, i64, Vec<u8>)> {
    let keys: Vec<String> = run(redis, "KEYS *").await.convert().unwrap();
    let mut all = Vec::new();
    for key in keys {
        let ttl = run(redis, &format!("PTTL {key}")).await.convert::<i64>().unwrap().max(0);
        let dump: Vec<u8> = run(redis, &format!("DUMP {key}")).await.convert().unwrap();
        all.push((key, ttl, dump));
    }
    all
}

async fn restore(redis: &Redis, all: &[(String, i64, Vec<u8>)]) {
    for (key, ttl, dump) in all {
        let command = Command::new("RESTORE").arg(key).arg(*ttl).arg(dump.clone()).arg("REPLACE");
        redis.send(command).await.unwrap();
    }
}

async fn nothing_old(caches: [&Users; 2], keys: std::ops::Range<u64>) {
    for key in keys {
        for cache in caches {
            let value = load(cache, key, "newer").await;
            assert_ne!(value, "old", "{key}");
        }
    }
}

#[tokio::test]
async fn what_was_invalidated_does_not_come_back_with_a_restart() {
    for restarts_with_its_era in [true, false] {
        let server = RedisServer::start().await;
        let proxy = FaultProxy::start(server.addr()).await;
        let url = format!("redis://{}", proxy.addr());
        let ((one, _), (other, _)) = (users(&url).await, users(&url).await);
        for key in 1..20 {
            load(&one, key, "old").await;
        }
        let mut saved = snapshot(&redis(&server).await).await;
        // Keys only: no number tells of that.
        for key in 1..20 {
            one.invalidate(&key).await.unwrap();
        }
        load(&other, 1, "new").await;
        proxy.set(Fault::Refuse);
        server.restart().await;
        proxy.cut();
        if !restarts_with_its_era {
            saved.retain(|(key, ..)| key != "users:era");
        }
        restore(&redis(&server).await, &saved).await;
        proxy.set(Fault::Pass);
        until(ms(3_000), || other.get(&1).is_none()).await;
        sleep(ms(1_200)).await;
        nothing_old([&one, &other], 1..20).await;
        let (third, _) = users(&url).await;
        nothing_old([&third, &one], 1..20).await;
    }
}

/// Also where no connection is lost by it.
#[tokio::test]
async fn numbers_that_have_gone_back_make_all_void() {
    for by_tag in [true, false] {
        let server = RedisServer::start().await;
        let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
        load(&one, 1, "old").await;
        load(&one, 2, "old").await;
        let saved = snapshot(&redis(&server).await).await;
        if by_tag {
            one.invalidate_tag("odd").await.unwrap();
        } else {
            one.clear().await.unwrap();
        }
        load(&other, 1, "new").await;
        sleep(ms(1_200)).await;
        restore(&redis(&server).await, &saved).await;
        sleep(ms(1_500)).await;
        nothing_old([&one, &other], 1..2).await;
        let (third, _) = users(&server.url()).await;
        assert_eq!(load(&third, 2, "newer").await, "newer", "whatever was there");
    }
}

/// What makes no difference costs nothing: the same server, and another connection.
#[tokio::test]
async fn a_connection_that_is_made_anew_voids_nothing() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let (one, watch) = users(&format!("redis://{}", proxy.addr())).await;
    load(&one, 1, "stored").await;
    for round in 1..4 {
        let before = watch.stats().flushes;
        proxy.cut();
        until(ms(2_000), || watch.stats().flushes > before).await;
        assert_eq!(load(&one, 1, "none").await, "stored", "{round}");
    }
}

/// Who may not ask for the run relies on the numbers.
#[tokio::test]
async fn a_server_that_may_not_be_asked_for_its_run_serves() {
    let server = RedisServer::start().await;
    run(&redis(&server).await, "ACL SETUSER default -info").await;
    let ((one, _), (other, _)) = (users(&server.url()).await, users(&server.url()).await);
    load(&one, 1, "one").await;
    assert_eq!(load(&other, 1, "other").await, "one");
    sleep(ms(1_200)).await;
    assert_eq!(load(&other, 1, "other").await, "one");
    assert_eq!((one.stats().store_errors, other.stats().store_errors), (0, 0));
}
