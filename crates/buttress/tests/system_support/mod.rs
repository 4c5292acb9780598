//! What the tests of `System` share.

#![allow(dead_code, reason = "each test file takes its own part of it")]

use std::{net::SocketAddr, time::Duration};

use buttress::{
    Config, System, config,
    postgres::{Postgres, PostgresConfig, Query},
    redis::{Command, RedisConfig},
};
use buttress_testkit::{RedisServer, TestDatabase, Upstream};
use tokio::time::{sleep, timeout};

pub(crate) const MS: Duration = Duration::from_millis(1);
/// Enough for a loaded machine, where a test is not about time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn with_database(url: impl Into<config::Secret>) -> Config {
    let mut config = Config::default();
    config.database = Some(config::Database::new(url));
    config
}

pub(crate) fn with_redis(url: impl Into<config::Secret>) -> Config {
    let mut config = Config::default();
    config.redis = Some(config::Redis::new(url));
    config
}

pub(crate) fn with_http(url: impl Into<String>) -> Config {
    let mut config = Config::default();
    config.http.insert("stock".to_owned(), config::Http::new(url));
    config
}

pub(crate) fn with_cache(mut config: Config, shared: bool) -> Config {
    let mut cache = config::Cache::default();
    cache.shared = shared;
    config.cache = Some(cache);
    config
}

pub(crate) async fn start(config: Config) -> System {
    System::start(config).await.expect("it starts")
}

/// A port of this machine at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Who asks the servers, past every system.
pub(crate) struct Observer(Postgres);

impl Observer {
    pub(crate) fn of(database: &TestDatabase) -> Self {
        let config = PostgresConfig::from_url(&database.url()).unwrap();
        Self(Postgres::new(config.with_application_name("observer").with_pool_size(1)).unwrap())
    }

    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        self.0.query(Query::new(sql)).await.unwrap().one().unwrap().get(0).unwrap()
    }

    /// How many connections others have to the database.
    pub(crate) async fn connections(&self) -> i64 {
        let sql = "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'app'";
        self.number(sql).await
    }

    /// How many statements run that sleep.
    pub(crate) async fn sleeping(&self) -> i64 {
        let sql =
            "select count(*) from pg_stat_activity where datname = current_database() and state = 'active'
            and application_name = 'app' and query like '%pg_sleep%'";
        self.number(sql).await
    }
}

/// How many connections others have to that Redis.
pub(crate) async fn redis_connections(server: &RedisServer) -> usize {
    let config = RedisConfig::from_url(&server.url()).unwrap().with_pool_size(1);
    let redis = buttress::redis::Redis::connect(config).await.unwrap();
    let list = redis.send(Command::new("CLIENT").arg("LIST")).await.unwrap();
    redis.close().await;
    list.convert::<String>().unwrap().lines().count() - 1
}

pub(crate) async fn until(what: &str, mut is: impl AsyncFnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is().await {
            sleep(10 * MS).await;
        }
    });
    assert!(waited.await.is_ok(), "not in {PATIENCE:?}: {what}");
}

/// An API that answers at `/` at once.
pub(crate) async fn api() -> Upstream {
    let upstream = Upstream::start().await;
    upstream.on("/", buttress_testkit::Reply::ok("7"));
    upstream
}
