//! What several tests share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::time::Duration;

use buttress_redis::{Command, Redis, RedisConfig, Value};
use buttress_testkit::{FaultProxy, RedisServer};

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A client's settings with quick reconnecting.
pub(crate) fn config(url: &str) -> RedisConfig {
    RedisConfig::from_url(url).unwrap().with_command_timeout(ms(300)).with_reconnect(ms(10), ms(50))
}

pub(crate) async fn connect(server: &RedisServer) -> Redis {
    Redis::connect(config(&server.url())).await.unwrap()
}

pub(crate) async fn behind(server: &RedisServer) -> (FaultProxy, Redis) {
    let proxy = FaultProxy::start(server.addr()).await;
    let redis = Redis::connect(config(&format!("redis://{}", proxy.addr()))).await.unwrap();
    (proxy, redis)
}

/// Sends `command` until it is answered. A test that hangs here is ended by the number of attempts.
pub(crate) async fn until_answered(redis: &Redis, command: Command) -> Value {
    for _ in 0..200 {
        if let Ok(value) = redis.send(command.clone()).await {
            return value;
        }
        tokio::time::sleep(ms(25)).await;
    }
    panic!("no answer at all");
}
