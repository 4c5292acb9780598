//! Beginning, end, and calls that are dropped in between.

mod support;

use std::time::Duration;

use buttress_core::{Reason, Rejectable};
use buttress_redis::{Command, Error, Redis, RedisConfig, Value};
use buttress_testkit::{Fault, RedisServer};
use support::{behind, config, connect, ms, until_answered};
use tokio::time::{Instant, sleep};

#[tokio::test]
async fn connecting_to_nobody_fails_fast() {
    let server = RedisServer::start().await;
    server.kill().await;
    let start = Instant::now();
    let error = Redis::connect(config(&server.url())).await.unwrap_err();
    assert!(matches!(error, Error::Connection(_)), "{error:?}");
    assert!(start.elapsed() < ms(500), "{:?}", start.elapsed());
}

#[tokio::test]
async fn connecting_to_a_black_hole_ends_with_the_connect_timeout() {
    let server = RedisServer::start().await;
    server.pause();
    let start = Instant::now();
    let config = config(&server.url()).with_connect_timeout(ms(200));
    let error = Redis::connect(config).await.unwrap_err();
    assert!(matches!(error, Error::Connection(_)), "{error:?}");
    assert!((ms(190)..ms(700)).contains(&start.elapsed()), "{:?}", start.elapsed());
    server.resume();
}

#[tokio::test]
async fn a_wrong_password_is_an_error_that_does_not_show_it() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    redis.send(Command::new("CONFIG").args(["SET", "requirepass", "right"])).await.unwrap();
    let url = |password| format!("redis://:{password}@{}", server.addr());
    let error = Redis::connect(config(&url("hunter2"))).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    assert!(matches!(&error, Error::Server(error) if error.code() == "WRONGPASS"), "{error:?}");
    let redis = Redis::connect(config(&url("right"))).await.unwrap();
    redis.send(Command::ping()).await.unwrap();
    assert!(!format!("{redis:?}").contains("right"), "{redis:?}");
}

#[tokio::test]
async fn a_user_of_the_servers_acl_gets_in_by_name_and_password() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    let user = Command::new("ACL").args(["SETUSER", "alice", "on", ">right", "~session:*", "+get", "+ping"]);
    redis.send(user).await.unwrap();
    let url = |user, password| format!("redis://{user}:{password}@{}", server.addr());
    let alice = Redis::connect(config(&url("alice", "right"))).await.unwrap();
    assert_eq!(alice.send(Command::get("session:7")).await.unwrap(), Value::Null);
    let error = alice.send(Command::set("session:7", "v")).await.unwrap_err();
    assert!(matches!(&error, Error::Server(error) if error.code() == "NOPERM"), "{error:?}");
    for (user, password) in [("alice", "hunter2"), ("bob", "right")] {
        let error = Redis::connect(config(&url(user, password))).await.unwrap_err();
        assert!(matches!(&error, Error::Server(error) if error.code() == "WRONGPASS"), "{error:?}");
    }
}

#[tokio::test]
async fn no_time_limit_is_too_long_to_connect_with() {
    let server = RedisServer::start().await;
    for days in [1, 50, 365 * 300] {
        let limit = Duration::from_secs(86_400 * days);
        let config = RedisConfig::from_url(&server.url()).unwrap();
        let redis = Redis::connect(config.with_command_timeout(limit)).await.unwrap();
        redis.send(Command::ping()).await.unwrap();
    }
}

#[tokio::test]
async fn whoever_closes_second_waits_too() {
    let server = RedisServer::start().await;
    let (proxy, redis) = behind(&server).await;
    proxy.set(Fault::Latency(ms(50)));
    let running = tokio::spawn(redis.send(Command::incr("n")));
    sleep(ms(10)).await;
    let start = Instant::now();
    let close = async || {
        redis.close().await;
        start.elapsed()
    };
    let (first, second) = tokio::join!(close(), close());
    assert!(second >= ms(30) && first.abs_diff(second) < ms(20), "{first:?} {second:?}");
    assert_eq!(running.await.unwrap().unwrap().convert::<i64>().unwrap(), 1);
}

#[tokio::test]
async fn a_lazy_client_connects_when_the_server_comes() {
    let server = RedisServer::start().await;
    server.kill().await;
    let redis = Redis::connect(config(&server.url()).lazy()).await.unwrap();
    let error = redis.send(Command::get("k")).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::TimedOut));
    server.restart().await;
    until_answered(&redis, Command::ping()).await;
}

#[tokio::test]
async fn a_dropped_call_gives_its_answer_to_nobody_else() {
    let server = RedisServer::start().await;
    let (proxy, redis) = behind(&server).await;
    for key in 0..20 {
        redis.send(Command::set(key, key * 1000)).await.unwrap();
    }
    proxy.set(Fault::Latency(ms(20)));
    for key in 0..20 {
        let dropped = tokio::time::timeout(ms(5), redis.send(Command::get(key))).await;
        assert!(dropped.is_err(), "{dropped:?}");
        let answer: i32 = redis.send(Command::get(19 - key)).await.unwrap().convert().unwrap();
        assert_eq!(answer, (19 - key) * 1000);
    }
}

#[tokio::test]
async fn a_call_that_was_never_polled_sends_nothing() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    drop(redis.send(Command::incr("n")));
    sleep(ms(50)).await;
    assert_eq!(redis.send(Command::incr("n")).await.unwrap().convert::<i64>().unwrap(), 1);
}

#[tokio::test]
async fn closing_waits_for_what_is_on_its_way_and_refuses_the_rest() {
    let server = RedisServer::start().await;
    let (proxy, redis) = behind(&server).await;
    proxy.set(Fault::Latency(ms(50)));
    let running = tokio::spawn(redis.send(Command::incr("n")));
    sleep(ms(10)).await;
    redis.close().await;
    assert_eq!(running.await.unwrap().unwrap().convert::<i64>().unwrap(), 1);
    let error = redis.send(Command::incr("n")).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::Closed));
    assert!(!error.sent());
    redis.close().await;
    nobody_else(&connect(&server).await).await;
}

#[tokio::test]
async fn closing_while_the_server_is_away_takes_no_longer_than_it_says() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    server.kill().await;
    sleep(ms(50)).await;
    let start = Instant::now();
    redis.close().await;
    assert!(start.elapsed() < ms(900), "{:?}", start.elapsed());
    server.restart().await;
    sleep(ms(200)).await;
    assert_eq!(others(&connect(&server).await).await, 0, "it does not come back");
}

#[tokio::test]
async fn the_last_clones_drop_ends_the_connection() {
    let server = RedisServer::start().await;
    let observer = connect(&server).await;
    let redis = connect(&server).await;
    let clone = redis.clone();
    drop(redis);
    sleep(ms(50)).await;
    assert_eq!(others(&observer).await, 1);
    clone.send(Command::ping()).await.unwrap();
    drop(clone);
    nobody_else(&observer).await;
}

/// A server learns that a connection has ended a moment later.
async fn nobody_else(observer: &Redis) {
    for _ in 0..100 {
        if others(observer).await == 0 {
            return;
        }
        sleep(ms(10)).await;
    }
    panic!("a connection outlives its client");
}

/// How many connections there are besides this one.
async fn others(redis: &Redis) -> usize {
    let clients: String = redis.send(Command::new("CLIENT").arg("LIST")).await.unwrap().convert().unwrap();
    clients.lines().count() - 1
}
