//! Values of 64 bytes of a Redis over TCP, 64 callers at a time, all of them on one connection.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use buttress_redis::{Command, Redis, RedisConfig};
use buttress_testkit::RedisServer;
use bytes::Bytes;
use fred::{
    clients::Client,
    interfaces::{ClientLike, KeysInterface},
    types::{
        Builder, RespVersion,
        config::{Config, UnresponsiveConfig},
    },
};
use futures_util::future::try_join;

use super::ServerRow;

const CALLERS: u64 = 64;
const STORED: u64 = 10_000;
const VALUE: [u8; 64] = [b'v'; 64];
const COMMAND_TIMEOUT: Duration = Duration::from_secs(1);

/// The rows, and the server that must live as long as they do.
pub(super) async fn rows() -> (Vec<ServerRow>, RedisServer) {
    let server = RedisServer::start().await;
    let config = RedisConfig::from_url(&server.url()).expect("it is valid");
    let config = config.with_command_timeout(COMMAND_TIMEOUT);
    let redis = Redis::connect(config).await.expect("the server is up");
    let fred = fred(&server.url()).await;
    for number in 0..STORED {
        let stored = redis.send(Command::set(key_of(number), Bytes::from_static(&VALUE))).await;
        stored.expect("the server is up");
    }

    let get = {
        let redis = redis.clone();
        row("buttress get 64", move || {
            let answer = redis.send(Command::get(key()));
            async move {
                let value: Bytes = answer.await.expect("the server is up").convert().expect("it is stored");
                assert_eq!(value.len(), VALUE.len());
            }
        })
    };
    let fred_get = {
        let fred = fred.clone();
        row("fred get 64", move || {
            let fred = fred.clone();
            async move {
                let value: Bytes = fred.get(key()).await.expect("the server is up");
                assert_eq!(value.len(), VALUE.len());
            }
        })
    };
    let set = {
        let redis = redis.clone();
        row("buttress set 64", move || {
            let answer = redis.send(Command::set(key(), Bytes::from_static(&VALUE)));
            async move { drop(answer.await.expect("the server is up")) }
        })
    };
    let fred_set = {
        let fred = fred.clone();
        row("fred set 64", move || {
            let fred = fred.clone();
            async move {
                let set = fred.set(key(), Bytes::from_static(&VALUE), None, None, false);
                set.await.map(|(): ()| ()).expect("the server is up");
            }
        })
    };
    let pair = row("buttress two gets 64", move || {
        let answers = try_join(redis.send(Command::get(key())), redis.send(Command::get(key())));
        async move {
            let (first, second) = answers.await.expect("the server is up");
            let [first, second] =
                [first, second].map(|value| value.convert::<Bytes>().expect("it is stored"));
            assert_eq!(first.len() + second.len(), 2 * VALUE.len());
        }
    });
    let fred_pair = row("fred two gets 64", move || {
        let fred = fred.clone();
        async move {
            let answers = try_join(fred.get::<Bytes, _>(key()), fred.get::<Bytes, _>(key()));
            let (first, second) = answers.await.expect("the server is up");
            assert_eq!(first.len() + second.len(), 2 * VALUE.len());
        }
    });
    (vec![get, fred_get, set, fred_set, pair, fred_pair], server)
}

/// With what our adapter sets: one connection, RESP3, and limits of time.
async fn fred(url: &str) -> Client {
    let mut config = Config::from_url(url).expect("it is valid");
    config.version = RespVersion::RESP3;
    let client = Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = COMMAND_TIMEOUT)
        .with_connection_config(|connection| {
            connection.tcp.nodelay = Some(true);
            connection.max_command_attempts = 1;
            connection.unresponsive = UnresponsiveConfig {
                max_timeout: Some(10 * COMMAND_TIMEOUT),
                interval: 10 * COMMAND_TIMEOUT / 4,
            };
        })
        .build()
        .expect("it is valid");
    // The client lives to the end of the program, and its task with it.
    client.init().await.expect("the server is up");
    client
}

/// Spread over what is stored, without a generator of random numbers in the measurement.
fn key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    key_of(NEXT.fetch_add(1, Relaxed).wrapping_mul(7_919) % STORED)
}

fn key_of(number: u64) -> String {
    format!("stored:{number}")
}

/// Calls of 64 callers, each of which takes the time of each of its calls.
fn row<F>(name: &'static str, call: impl Fn() -> F + Clone + Send + 'static) -> ServerRow
where
    F: Future<Output = ()> + Send + 'static,
{
    super::timed("redis", name, CALLERS, call)
}
