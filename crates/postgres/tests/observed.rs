//! What the handles tell and do, and what a database says of its decisions.

mod support;

use std::time::Duration;

use buttress_core::{Backoff, Deadline, Metric, Observe, Reason, Rejectable, Setting, SettingValue, Value};
use buttress_postgres::{
    Error, Isolation, Listener, Postgres, PostgresConfig, Query, StatementMode, TransactionOptions,
};
use buttress_testkit::TestDatabase;
use buttress_testkit::observed::{said, settings, watched};
use support::{SLEEPING, postgres, spy, until_backends};
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

#[test]
fn settings_are_those_in_force_and_nothing_of_the_url() {
    let config = PostgresConfig::from_url("postgres://bob:hunter2@db.example/orders")
        .unwrap()
        .with_pool_size(7)
        .with_max_overflow(3)
        .with_max_lifetime(None)
        .with_statement_mode(StatementMode::Unnamed)
        .with_slow_query(Duration::MAX);
    let db = Postgres::new(config).unwrap();
    let seen = settings(&*db.downgrade().upgrade().unwrap());
    assert_eq!(
        seen,
        [
            Setting::new("pool_size", SettingValue::Count(7)),
            Setting::new("max_overflow", SettingValue::Count(3)),
            Setting::new("wait_timeout", SettingValue::Duration(5 * SECOND)),
            Setting::new("connect_timeout", SettingValue::Duration(5 * SECOND)),
            Setting::new("recycle_timeout", SettingValue::Duration(2 * SECOND)),
            Setting::new("idle_timeout", SettingValue::Duration(600 * SECOND)),
            Setting::new("max_lifetime", SettingValue::Off),
            Setting::new("statement_cache", SettingValue::Count(256)),
            Setting::new("statement_mode", SettingValue::Word("unnamed")),
            Setting::new("slow_query", SettingValue::Off),
        ]
    );
    let mut units = Vec::new();
    db.observe(&mut |Metric { name, unit, .. }| units.extend((!unit.is_empty()).then_some((name, unit))));
    assert_eq!(units, [("waited_time", "us")]);
}

#[tokio::test]
async fn who_finds_no_free_connection_is_told_why() {
    let test = TestDatabase::new().await;
    let config = PostgresConfig::from_url(&test.url()).unwrap().with_pool_size(2).with_wait_timeout(50 * MS);
    let (db, spy) = (Postgres::new(config).unwrap(), spy(test.config()).await);
    let (first, none) = watched(db.query(Query::new("select 1"))).await;
    assert_eq!((first.is_ok(), none), (true, vec![]));
    let sleeper = async |db: Postgres| db.query(Query::new("select pg_sleep(30)")).await;
    let sleepers = [tokio::spawn(sleeper(db.clone())), tokio::spawn(sleeper(db.clone()))];
    until_backends(&spy, SLEEPING, 2).await;

    let queued = said("queued", "2 of 2 connections in use, 0 waiting");
    let (refused, why) = watched(db.query(Query::new("select 1"))).await;
    assert_eq!(refused.unwrap_err().rejected().unwrap().reason(), Reason::Overloaded);
    assert_eq!(why, [queued.clone(), said("refused", "2 of 2 connections in use, 0 waiting")]);

    let late = Deadline::after(20 * MS).scope(async { db.query(Query::new("select 1")).await });
    let (late, why) = watched(late).await;
    assert_eq!(late.unwrap_err().rejected().unwrap().reason(), Reason::DeadlineExceeded);
    let gave_up = "the caller's deadline passed in the queue: 2 of 2 connections in use, 0 waiting";
    assert_eq!(why, [queued, said("gave_up", gave_up)]);
    sleepers.iter().for_each(|sleeper| sleeper.abort());
}

#[tokio::test]
async fn a_statement_that_is_cut_off_says_so() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("select 1")).await.unwrap();
    let late = Deadline::after(100 * MS).scope(async { db.query(Query::new("select pg_sleep(30)")).await });
    let (late, why) = watched(late).await;
    assert!(late.unwrap_err().sent());
    assert_eq!(why, [said("gave_up", "the caller's deadline passed before the server's answer")]);
}

#[tokio::test]
async fn a_transaction_that_is_run_again_says_why() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    db.query(Query::new("create table counters (n int)")).await.unwrap();
    db.query(Query::new("insert into counters values (0)")).await.unwrap();
    let options = TransactionOptions::new()
        .with_isolation(Isolation::Serializable)
        .with_retries(1)
        .with_backoff(Backoff::constant(MS));
    // Another's write comes between its read and its write, every time.
    let work = async |tx: &buttress_postgres::Transaction<'_>| {
        tx.query(Query::new("select n from counters")).await?;
        db.query(Query::new("update counters set n = n + 1")).await?;
        tx.query(Query::new("update counters set n = n + 10")).await?;
        Ok::<_, Error>(())
    };
    let (result, why) = watched(db.transaction_with(options, work)).await;
    assert!(result.is_err());
    let [(first, retried), (second, gave_up)] = &why[..] else { panic!("{why:?}") };
    assert_eq!((*first, *second), ("retried", "gave_up"));
    assert!(retried.ends_with(", after a conflict with another transaction"), "{retried}");
    assert_eq!(gave_up, "all of 2 runs met a conflict");
}

#[cfg(feature = "cache")]
#[tokio::test]
async fn the_cache_of_queries_tells_its_settings_and_is_cleared() {
    use buttress_core::UnknownAction;
    use buttress_postgres::QueryCache;
    use tower::{Layer, ServiceExt};

    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    db.query(Query::new("create table counters (n int)")).await.unwrap();
    let cache = QueryCache::with("observed", |cache| cache.ttl(9 * SECOND));
    let queries = cache.layer(db.clone());
    let count = async || {
        let query = Query::new("select count(*) from counters").cached(["counters"]);
        queries.clone().oneshot(query).await.unwrap().one().unwrap().get::<i64>(0).unwrap()
    };
    let handle = cache.downgrade().upgrade().unwrap();
    assert!(settings(&*handle).contains(&Setting::new("ttl", SettingValue::Duration(9 * SECOND))));
    assert_eq!(settings(&*handle), settings(&cache));

    assert_eq!(count().await, 0);
    db.query(Query::new("insert into counters values (1)")).await.unwrap();
    assert_eq!(count().await, 0);
    assert_eq!((handle.actions(), handle.act("reset")), (&["clear"][..], Err(UnknownAction)));
    handle.act("clear").unwrap();
    assert_eq!(count().await, 1);
    db.query(Query::new("insert into counters values (2)")).await.unwrap();
    assert_eq!(count().await, 1);
    cache.act("clear").unwrap();
    assert_eq!(count().await, 2);

    let weak = cache.downgrade();
    drop((handle, cache));
    assert!(weak.upgrade().is_some());
    drop(queries);
    assert!(weak.upgrade().is_none());
}

#[tokio::test]
async fn weak_handles_keep_neither_pool_nor_listener() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    db.query(Query::new("select 1")).await.unwrap();
    let config = PostgresConfig::from_url(&test.url()).unwrap();
    let listener = Listener::connect(&config, ["orders"]).await.unwrap();
    until_backends(&spy, "true", 2).await;
    let weak = [db.downgrade(), listener.downgrade(), listener.channels().downgrade()];
    let channels = listener.channels();
    assert!(weak.iter().all(|weak| weak.upgrade().is_some()));
    drop((db, listener));
    until_backends(&spy, "true", 0).await;
    // The handle to the channels tells that it is over, and keeps nothing else.
    let mut connected = None;
    weak[2].upgrade().unwrap().observe(&mut |metric| {
        if metric.name == "connected" {
            connected = Some(metric.value);
        }
    });
    assert_eq!(connected, Some(Value::Gauge(0.0)));
    drop(channels);
    let gone = async {
        while weak.iter().any(|weak| weak.upgrade().is_some()) {
            sleep(MS).await;
        }
    };
    timeout(5 * SECOND, gone).await.unwrap();
}
