//! What the handles tell, and what a client says of its decisions.

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Observe, Setting, SettingValue};
use buttress_redis::{Command, Redis, RedisConfig};
use buttress_testkit::RedisServer;
use buttress_testkit::observed::{said, settings, watched};
use support::{config, connect, ms};
use tokio::time::{sleep, timeout};

#[tokio::test]
async fn settings_are_those_in_force_and_nothing_of_the_url() {
    let config = RedisConfig::from_url("redis://bob:hunter2@127.0.0.1:1")
        .unwrap()
        .with_command_timeout(Duration::ZERO)
        .with_max_queued(7)
        .with_pool_size(2)
        .lazy();
    let redis = Redis::connect(config).await.unwrap();
    let weak = redis.downgrade();
    assert_eq!(
        settings(&*weak.upgrade().unwrap()),
        [
            Setting::new("command_timeout", SettingValue::Duration(ms(1))),
            Setting::new("connect_timeout", SettingValue::Duration(ms(5_000))),
            Setting::new("max_queued", SettingValue::Count(7)),
            Setting::new("max_in_flight", SettingValue::Count(10_000)),
            Setting::new("reconnect_first", SettingValue::Duration(ms(100))),
            Setting::new("reconnect_cap", SettingValue::Duration(ms(5_000))),
            Setting::new("pool_size", SettingValue::Count(2)),
            Setting::new("lazy", SettingValue::Word("on")),
        ]
    );
    drop(redis);
    assert!(weak.upgrade().is_none());
}

#[tokio::test]
async fn a_full_queue_and_a_silent_server_are_reasons() {
    let server = RedisServer::start().await;
    let redis = Redis::connect(config(&server.url()).with_max_in_flight(1)).await.unwrap();
    assert_eq!(watched(redis.send(Command::ping())).await.1, []);
    server.pause();
    let (late, why) =
        watched(Deadline::after(ms(50)).scope(async { redis.send(Command::ping()).await })).await;
    assert!(late.is_err());
    let busy = "0 of 10000 commands queued, 1 of 1 in flight";
    assert_eq!(why, [said("gave_up", &format!("the caller's deadline passed: {busy}"))]);
    let (refused, why) = watched(redis.send(Command::ping())).await;
    assert!(refused.is_err());
    assert_eq!(why, [said("refused", busy)]);
    server.resume();
}

#[tokio::test]
async fn a_server_that_is_away_is_a_reason() {
    let server = RedisServer::start().await;
    let redis = connect(&server).await;
    server.kill().await;
    while redis.is_connected() {
        sleep(ms(1)).await;
    }
    let (late, why) = watched(redis.send(Command::ping())).await;
    assert!(late.is_err());
    let [(what, why)] = &why[..] else { panic!("{why:?}") };
    assert_eq!(*what, "gave_up");
    assert!(why.starts_with("no answer in time, 300.0ms at most, and the connection is down: "), "{why}");
}

#[cfg(feature = "cache")]
#[tokio::test]
async fn a_weak_watch_ends_with_the_store_and_keeps_no_connection() {
    use buttress_core::{Metric, Value};
    use buttress_redis::cache::RedisStore;

    let server = RedisServer::start().await;
    let spy = connect(&server).await;
    let clients = async || {
        let list = spy.send(Command::new("CLIENT").arg("LIST")).await.unwrap();
        list.as_str().unwrap().lines().count()
    };
    let before = clients().await;
    let store: RedisStore<u64, String> =
        RedisStore::connect(config(&server.url()), "users").await.unwrap().with_version(3).with_max_value(64);
    // Registered by way of a temporary.
    let weak = store.watch().downgrade();
    assert!(clients().await > before);
    let handle = weak.upgrade().unwrap();
    assert_eq!(
        settings(&*handle),
        [
            Setting::new("version", SettingValue::Count(3)),
            Setting::new("lease", SettingValue::Duration(ms(5_000))),
            Setting::new("max_value", SettingValue::Count(64)),
        ]
    );
    let mut connected = None;
    handle.observe(&mut |Metric { name, value, .. }| {
        if name == "connected" {
            connected = Some(value);
        }
    });
    assert_eq!(connected, Some(Value::Gauge(1.0)));
    drop((handle, store));
    let gone = async {
        while weak.upgrade().is_some() || clients().await > before {
            sleep(ms(5)).await;
        }
    };
    timeout(ms(3_000), gone).await.expect("its tasks and its connection end");
}
