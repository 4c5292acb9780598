//! What a shutdown waits for, refuses and cuts off.
#![cfg(feature = "dashboard")]

mod system_support;

use std::{net::SocketAddr, time::Duration};

use buttress::{
    Config, Error, System,
    core::{Reason, Rejectable},
    postgres::{self, Query},
    redis::Command,
};
use buttress_testkit::{RedisServer, Reply, TestDatabase};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use self::system_support::{
    MS, Observer, PATIENCE, api, redis_connections, start, until, with_cache, with_database, with_http,
    with_redis,
};

fn is_closed(error: &impl Rejectable) -> bool {
    error.rejected().is_some_and(|rejected| rejected.reason() == Reason::Closed && !rejected.sent())
}

fn sleeps(seconds: f64) -> Query {
    Query::new("select pg_sleep(:seconds)").bind("seconds", seconds)
}

/// Everything that is called is refused at once.
async fn refuses_all(system: &System) {
    let began = Instant::now();
    assert!(is_closed(&system.query(Query::new("select 1")).await.unwrap_err()));
    let nothing = async |_: &postgres::Transaction<'_>| Ok::<(), Error>(());
    assert!(is_closed(&system.transaction(nothing).await.unwrap_err()));
    assert!(is_closed(&system.redis().unwrap().send(Command::ping()).await.unwrap_err()));
    assert!(is_closed(&system.http("stock").unwrap().get("/").send().await.unwrap_err()));
    let cache = system.cache().unwrap();
    assert!(is_closed(&cache.get::<u32>("a").await.unwrap_err()));
    assert!(is_closed(&cache.set("a", &1).await.unwrap_err()));
    assert!(is_closed(&cache.invalidate("a").await.unwrap_err()));
    assert!(is_closed(&cache.get_or_load("a", async || Ok::<u32, Error>(1)).await.unwrap_err()));
    assert!(matches!(system.reload(Config::default()), Err(buttress::ReloadError::Closed)));
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test]
async fn it_waits_for_calls_on_their_way_and_refuses_new_ones() {
    let (test, redis, upstream) = (TestDatabase::new().await, RedisServer::start().await, api().await);
    upstream.on("/slow", Reply::ok("7").after(400 * MS));
    let observer = Observer::of(&test);
    let mut config = with_cache(with_redis(redis.url()), true);
    config.database = with_database(test.url()).database;
    config.http = with_http(upstream.url()).http;
    config.telemetry.dashboard = Some("127.0.0.1:0".parse().unwrap());
    let system = start(config).await;
    let page: SocketAddr = system.dashboard().unwrap();
    system.execute(Query::new("create table t (id bigint)")).await.unwrap();

    let (other, another, third) = (system.clone(), system.clone(), system.clone());
    let query = tokio::spawn(async move { other.query(sleeps(0.4)).await });
    let write = tokio::spawn(async move {
        let work = async |tx: &postgres::Transaction<'_>| {
            tx.query(sleeps(0.2)).await?;
            tx.query(Query::new("insert into t values (1)")).await?;
            tx.query(sleeps(0.2)).await?;
            Ok::<(), Error>(())
        };
        another.transaction(work).await
    });
    let request = tokio::spawn(async move {
        third.http("stock")?.get("/slow").send().await?.text().await.map_err(Error::from)
    });
    until("all are on their way", async || observer.sleeping().await == 2 && upstream.requests().len() == 1)
        .await;

    let closing = system.clone();
    let shutdown = tokio::spawn(async move { closing.shutdown(PATIENCE).await });
    until("it is shutting down", async || system.health().report().is_shutting_down()).await;
    assert!(!shutdown.is_finished());
    refuses_all(&system).await;
    assert!(!shutdown.is_finished(), "a refusal waits for nothing");

    let report = timeout(PATIENCE, shutdown).await.unwrap().unwrap();
    assert!(report.is_clean(), "{report}");
    assert!(report.to_string().ends_with("everything came to its end"), "{report}");
    query.await.unwrap().unwrap();
    write.await.unwrap().unwrap();
    assert_eq!(request.await.unwrap().unwrap(), "7");
    assert_eq!(observer.number("select count(*) from t").await, 1);

    // A clone is there still, and holds nothing open.
    until("the connections are closed", async || observer.connections().await == 0).await;
    until("the connections are closed", async || redis_connections(&redis).await == 0).await;
    until("the page is closed", async || TcpStream::connect(page).await.is_err()).await;

    // Again, from a clone.
    let report = timeout(PATIENCE, system.clone().shutdown(PATIENCE)).await.unwrap();
    assert!(report.is_clean() && report.took < Duration::from_secs(1), "{report}");
    refuses_all(&system).await;
}

#[tokio::test]
async fn it_says_what_it_cut_off() {
    let (test, upstream) = (TestDatabase::new().await, api().await);
    upstream.on("/endless", Reply::ok("0123456789").stall_after(3));
    let observer = Observer::of(&test);
    let mut config = with_database(test.url());
    config.http = with_http(upstream.url()).http;
    let system = start(config).await;

    let other = system.clone();
    let query = tokio::spawn(async move { other.query(sleeps(5.0)).await });
    let other = system.clone();
    let body = tokio::spawn(async move {
        other.http("stock")?.get("/endless").send().await?.text().await.map_err(Error::from)
    });
    until("both are on their way", async || observer.sleeping().await == 1 && upstream.requests().len() == 1)
        .await;
    sleep(50 * MS).await;

    let began = Instant::now();
    let report = system.shutdown(300 * MS).await;
    assert!(began.elapsed() >= 300 * MS && began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(!report.is_clean());
    assert_eq!(report.calls, 1, "{report:?}");
    assert_eq!(report.parts, ["http.stock", "database"], "{report:?}");
    let line = report.to_string();
    assert!(line.contains("1 calls were cut off"), "{line}");
    assert!(line.contains("http.stock, database"), "{line}");

    // The answer that never ends has ended.
    timeout(PATIENCE, body).await.unwrap().unwrap().unwrap_err();
    query.abort();
    until("nothing is left", async || observer.connections().await == 0).await;
    let report = system.shutdown(PATIENCE).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn dropped_it_stays_closed_and_can_be_taken_up_again() {
    let test = TestDatabase::new().await;
    let (system, observer) = (start(with_database(test.url())).await, Observer::of(&test));
    let other = system.clone();
    let query = tokio::spawn(async move { other.query(sleeps(0.5)).await });
    until("it runs", async || observer.sleeping().await == 1).await;

    timeout(50 * MS, system.shutdown(PATIENCE)).await.unwrap_err();
    assert!(is_closed(&system.query(Query::new("select 1")).await.unwrap_err()));
    assert!(!query.is_finished(), "it goes on");

    // Two at a time end both.
    let other = system.clone();
    let (here, there) = tokio::join!(system.shutdown(PATIENCE), other.shutdown(PATIENCE));
    assert!(here.is_clean() && there.is_clean(), "{here} {there}");
    query.await.unwrap().unwrap();
    until("the connections are closed", async || observer.connections().await == 0).await;
}

#[tokio::test]
async fn a_deadline_of_any_length_will_do() {
    let test = TestDatabase::new().await;
    let (system, observer) = (start(with_database(test.url())).await, Observer::of(&test));
    let report = timeout(PATIENCE, system.shutdown(Duration::ZERO)).await.unwrap();
    // Whether the connections were seen to go in no time is left to chance; they go.
    assert_eq!(report.calls, 0, "{report}");
    until("the connections are closed", async || observer.connections().await == 0).await;
    let report = timeout(PATIENCE, system.shutdown(Duration::MAX)).await.unwrap();
    assert!(report.is_clean(), "{report}");
}

#[tokio::test]
async fn servers_that_are_gone_do_not_keep_it() {
    let (redis, postgres) = (RedisServer::start().await, buttress_testkit::PostgresServer::start().await);
    let mut config = with_cache(with_redis(redis.url()), true);
    config.database = with_database(postgres.url()).database;
    let system = start(config).await;
    system.query(Query::new("select 1")).await.unwrap();
    redis.kill().await;
    postgres.kill().await;
    let report = timeout(PATIENCE, system.shutdown(PATIENCE / 2)).await.unwrap();
    assert!(report.took < PATIENCE / 2, "{report}");
}
