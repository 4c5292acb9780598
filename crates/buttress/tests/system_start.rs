//! What cannot be started says so in one line, and leaves nothing behind.
#![cfg(feature = "dashboard")]

mod system_support;

use std::error::Error as _;

use buttress::{
    Config, Error, StartError, System,
    redis::{Command, RedisConfig},
};
use buttress_testkit::{PostgresServer, RedisServer, TestDatabase};
use tokio::{net::TcpListener, time::timeout};

use self::system_support::{
    MS, Observer, PATIENCE, nobody, redis_connections, start, until, with_cache, with_database, with_http,
    with_redis,
};

/// One line that begins with the table, without the secret that stands in the configuration.
async fn refused(config: Config, table: &str) -> StartError {
    let error = timeout(PATIENCE, System::start(config)).await.expect("it ends").expect_err("it is refused");
    let (line, debug) = (error.to_string(), format!("{error:?}"));
    assert!(line.starts_with(&format!("{table}: ")), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        causes.push(cause.to_string());
        source = cause.source();
    }
    for text in causes.iter().chain([&line, &debug]) {
        assert!(!text.contains("hunter2"), "{text}");
    }
    error
}

#[tokio::test]
async fn a_database_that_is_away() {
    let url = format!("postgres://app:hunter2@{}/shop", nobody());
    let error = refused(with_database(url), "database").await;
    assert!(error.to_string().to_lowercase().contains("connection refused"), "{error}");
}

#[tokio::test]
async fn a_password_that_is_wrong() {
    let hba = "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    let server = PostgresServer::start_with(&[], &[("pg_hba.conf", hba)]).await;
    let url = format!("postgres://postgres:hunter2@{}/postgres", server.addr());
    let error = refused(with_database(url), "database").await;
    assert!(error.to_string().contains("password"), "{error}");
}

#[tokio::test]
async fn redis_that_is_away_leaves_no_connection_to_the_database() {
    let test = TestDatabase::new().await;
    let observer = Observer::of(&test);
    let mut config = with_redis(format!("redis://:hunter2@{}", nobody()));
    config.database = with_database(test.url()).database;
    refused(config, "redis").await;
    until("the connections are closed", async || observer.connections().await == 0).await;
}

#[tokio::test]
async fn a_password_of_redis_that_is_wrong() {
    let server = RedisServer::start().await;
    let config = RedisConfig::from_url(&server.url()).unwrap().with_pool_size(1);
    let owner = buttress::redis::Redis::connect(config).await.unwrap();
    let password = |password: &'static str| Command::new("CONFIG").args(["SET", "requirepass", password]);
    owner.send(password("another")).await.unwrap();
    refused(with_redis(format!("redis://:hunter2@{}", server.addr())), "redis").await;
    owner.send(password("")).await.unwrap();
    owner.close().await;
    until("the connections are closed", async || redis_connections(&server).await == 0).await;
}

#[tokio::test]
async fn an_address_in_use_leaves_nothing() {
    let (test, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let observer = Observer::of(&test);
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = with_cache(with_redis(redis.url()), true);
    config.database = with_database(test.url()).database;
    config.health.interval = 10 * MS;
    config.telemetry.dashboard = Some(taken.local_addr().unwrap());
    let error = refused(config.clone(), "telemetry.dashboard").await;
    assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
    until("the connections are closed", async || observer.connections().await == 0).await;
    until("the connections are closed", async || redis_connections(&redis).await == 0).await;

    // The same does once the address is free, and ends as the last of it is dropped.
    drop(taken);
    let system = start(config).await;
    let page = system.dashboard().unwrap();
    assert!(tokio::net::TcpStream::connect(page).await.is_ok());
    assert!(observer.connections().await > 0);
    drop(system);
    until("the connections are closed", async || observer.connections().await == 0).await;
    until("the connections are closed", async || redis_connections(&redis).await == 0).await;
    until("the page is closed", async || tokio::net::TcpStream::connect(page).await.is_err()).await;
}

#[tokio::test]
async fn a_start_that_is_dropped_leaves_nothing() {
    let test = TestDatabase::new().await;
    let observer = Observer::of(&test);
    // It takes the connection and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = with_redis(format!("redis://{}", silent.local_addr().unwrap()));
    config.database = with_database(test.url()).database;
    config.redis.as_mut().unwrap().connect_timeout = PATIENCE;
    let mut starting = Box::pin(System::start(config));
    let connected = async { until("it is connected", async || observer.connections().await > 0).await };
    tokio::select! {
        started = &mut starting => panic!("{started:?}"),
        () = connected => {}
    }
    drop(starting);
    until("the connections are closed", async || observer.connections().await == 0).await;
}

#[tokio::test]
async fn a_part_that_is_missing_is_named() {
    let mut config = with_http("http://127.0.0.1:1");
    config.http.insert("bank".to_owned(), buttress::config::Http::new("http://127.0.0.1:1"));
    let system = start(config).await;
    let said = |error: Error| {
        assert!(matches!(error, Error::NotConfigured(_)), "{error:?}");
        error.to_string()
    };
    let missing = |table: &str| format!("the configuration has no table `[{table}]`: add it");
    assert_eq!(said(system.database().unwrap_err()), missing("database"));
    assert_eq!(
        said(system.query(buttress::postgres::Query::new("select 1")).await.unwrap_err()),
        missing("database")
    );
    let nothing = system.transaction(async |_| Ok::<(), Error>(())).await;
    assert_eq!(said(nothing.unwrap_err()), missing("database"));
    assert_eq!(said(system.redis().unwrap_err()), missing("redis"));
    assert_eq!(said(system.cache().unwrap_err()), missing("cache"));
    let others = ", or ask for one of those that are there: bank, stock";
    assert_eq!(said(system.http("shop").unwrap_err()), missing("http.shop") + others);
    assert_eq!(said(system.http_service("shop").unwrap_err()), missing("http.shop") + others);
    assert!(system.slow_queries(10).is_empty());
    assert!(system.shutdown(PATIENCE).await.is_clean());
}

#[tokio::test]
async fn nothing_at_all_is_a_system() {
    let system = start(Config::default()).await;
    assert!(system.health().wait_ready(PATIENCE).await.is_ok());
    assert!(system.shutdown(PATIENCE).await.is_clean());
}

#[tokio::test]
async fn secrets_are_shown_nowhere() {
    let (test, redis) = (TestDatabase::new().await, RedisServer::start().await);
    let url = test.url().replace("postgres@", "postgres:hunter2@");
    let mut config = with_cache(with_redis(redis.url()), true);
    config.database = with_database(url).database;
    let mut http = buttress::config::Http::new("http://127.0.0.1:1");
    http.retry.retries = 0;
    http.bearer = Some("hunter2".into());
    http.headers.insert("x-api-key".to_owned(), "hunter2".into());
    config.http.insert("stock".to_owned(), http);
    let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");

    let system = start(config).await;
    let parts = (system.database().unwrap(), system.redis().unwrap(), system.cache().unwrap());
    let apis = (system.http("stock").unwrap(), system.http_service("stock").unwrap());
    let failed = apis.0.get("/").send().await.unwrap_err();
    let shown = format!("{system:?} {parts:?} {apis:?} {failed:?} {failed} {}", system.stats());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("stock"), "{shown}");
}
