//! Several statements in one round trip.

mod support;

use std::time::Duration;

use buttress_batch::BatchLayer;
use buttress_core::{Deadline, Reason, Rejectable};
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, QueryError};
use buttress_testkit::TestDatabase;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};
use tower::{Layer, ServiceExt};

use self::support::{SLEEPING, figure, postgres, spy, until_backends};

fn insert(n: i32) -> Query {
    Query::new("insert into numbers (n) values (:n) returning n").bind("n", n)
}

#[tokio::test]
async fn each_has_its_own_result_and_they_run_in_their_order() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table numbers (at bigserial, n int unique)")).await.unwrap();
    // One of them is prepared, and must not overtake the others.
    db.query(insert(0)).await.unwrap();
    let queries = [
        Query::new("select count(*)::int from numbers"),
        insert(1),
        Query::new("select count(*)::int from numbers"),
        insert(1),
        Query::new("select :missing"),
        Query::new("selec"),
        insert(2),
        Query::new("select 1 / (count(*) - 3)::int from numbers"),
        Query::new("select count(*)::int from numbers where n < :most").bind("most", 10),
    ];
    let results = db.pipeline(&queries).await.unwrap();
    let told: Vec<_> = results
        .into_iter()
        .map(|result| match result {
            Ok(rows) => rows.one().unwrap().get::<i32>(0).unwrap().to_string(),
            Err(Error::Query { cause: QueryError::Missing(name), .. }) => format!("missing {name}"),
            Err(error) => error.sqlstate().unwrap().code().to_owned(),
        })
        .collect();
    assert_eq!(told, ["1", "1", "2", "23505", "missing missing", "42601", "2", "22012", "3"]);
    assert!(db.pipeline(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn it_is_one_round_trip() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let naps: Vec<_> = (0..50).map(|_| Query::new("select 1 from pg_sleep(0)")).collect();
    db.pipeline(&naps).await.unwrap();
    let service = BatchLayer::new("db").layer(db.pipelined());
    let before = figure(&db, "queries");
    let results =
        join_all((0..200).map(|n| service.clone().oneshot(Query::new("select :n").bind("n", n.to_string()))))
            .await;
    for (n, result) in (0..200).zip(results) {
        assert_eq!(result.unwrap().one().unwrap().get::<&str>(0).unwrap(), n.to_string());
    }
    assert_eq!(figure(&db, "queries") - before, 200.0);
    let batches = service.batch().stats().batches;
    assert!(batches <= 3, "{batches}");
}

#[tokio::test]
async fn what_is_late_or_dropped_is_cancelled() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let spy = spy(test.config()).await;
    let nap = || [Query::new("select 1"), Query::new("select pg_sleep(60)"), Query::new("select 2")];
    let start = Instant::now();
    let late = Deadline::after(Duration::from_millis(100)).scope(async { db.pipeline(&nap()).await }).await;
    let error = late.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::DeadlineExceeded);
    assert!(error.sent() && start.elapsed() < Duration::from_secs(2));
    assert!(timeout(Duration::from_millis(100), db.pipeline(&nap())).await.is_err());
    until_backends(&spy, SLEEPING, 0).await;
    // The next one is not held up.
    let next = timeout(Duration::from_secs(2), db.query(Query::new("select 1"))).await;
    assert!(next.unwrap().is_ok());
}

#[tokio::test]
async fn a_connection_that_breaks_is_not_handed_on() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let queries = [
        Query::new("select 1"),
        Query::new("select pg_terminate_backend(pg_backend_pid())"),
        Query::new("select 3"),
    ];
    let results = db.pipeline(&queries).await.unwrap();
    assert!(results[0].is_ok());
    assert!(results[1..].iter().all(Result::is_err), "{results:?}");
    assert!(db.query(Query::new("select 1")).await.is_ok());

    // It is noticed before anything is sent that the pool's connection is dead: another one is taken.
    let spy = spy(test.config()).await;
    let others = "select pg_terminate_backend(pid) from pg_stat_activity \
                  where datname = current_database() and pid <> pg_backend_pid()";
    spy.execute(others, &[]).await.unwrap();
    for result in db.pipeline(&[Query::new("select 4"), Query::new("select 5")]).await.unwrap() {
        result.unwrap();
    }
}

async fn logged(db: &Postgres, from: &str) -> Vec<i32> {
    let rows = db.query(Query::new(format!("select n from {from}"))).await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

/// Runs statements that log one number each, and says in which order they did.
async fn order(db: &Postgres, statements: impl Iterator<Item = String>) -> Vec<i32> {
    db.query(Query::new("create table log (at bigserial, n int)")).await.unwrap();
    let queries: Vec<_> = statements.map(Query::new).collect();
    for result in db.pipeline(&queries).await.unwrap() {
        result.unwrap();
    }
    logged(db, "log order by at").await
}

#[tokio::test]
async fn what_a_connection_does_not_keep_is_not_overtaken() {
    let log = |n: i32, more: &str| format!("insert into log (n) values ({n}) {more}");
    // Texts of such a length are not kept.
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let long = format!("/* {} */", "x".repeat(20_000));
    let texts = (0..6).map(|n| log(n, if n % 2 == 0 { &long } else { "" }));
    assert_eq!(order(&db, texts).await, [0, 1, 2, 3, 4, 5]);

    let test = TestDatabase::new().await;
    let config = PostgresConfig::from_url(&test.url()).unwrap().with_pool_size(1).with_statement_cache(2);
    let db = Postgres::new(config).unwrap();
    assert_eq!(order(&db, (0..6).map(|n| log(n, ""))).await, [0, 1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn what_cannot_be_prepared_yet_is_not_overtaken() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let statements = [
        "create table made (n int)",
        "insert into made select count(*) from log",
        "insert into log (n) values (7)",
    ];
    assert_eq!(order(&db, statements.into_iter().map(str::to_owned)).await, [7]);
    assert_eq!(logged(&db, "made").await, [0]);
}

#[tokio::test]
async fn one_that_is_run_once_more_does_not_take_back_that_others_were_sent() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    spy.batch_execute("create table numbers (n int); create table altered (id int)").await.unwrap();
    let all = || Query::new("select * from altered");
    db.query(all()).await.unwrap();
    spy.batch_execute("alter table altered add column more int").await.unwrap();
    // The first one is prepared anew, behind the last one.
    let queries = [all(), insert(1), Query::new("select pg_sleep(60)")];
    let late = Deadline::after(Duration::from_millis(500)).scope(db.pipeline(&queries)).await;
    let error = late.unwrap_err();
    assert_eq!(spy.query("select from numbers", &[]).await.unwrap().len(), 1);
    assert!(error.sent(), "{error}");
}
