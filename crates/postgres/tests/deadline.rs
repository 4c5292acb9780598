//! Deadlines and the pool's queue.

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Reason, Rejectable};
use buttress_postgres::{Error, Postgres, PostgresConfig, Query, QueryError};
use buttress_testkit::{Fault, FaultProxy, TestDatabase};
use support::{SLEEPING, figure, postgres, spy, until_backends};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

const MS: Duration = Duration::from_millis(1);

fn sleeper() -> Query {
    Query::new("select pg_sleep(30)")
}

fn rejected(error: &Error) -> (Reason, bool) {
    let rejected = error.rejected().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((rejected.layer(), rejected.sent()), ("postgres", error.sent()));
    (rejected.reason(), rejected.sent())
}

#[tokio::test]
async fn a_running_statement_is_cancelled_at_the_deadline() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let start = Instant::now();
    let error = Deadline::after(200 * MS).scope(db.clone().oneshot(sleeper())).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::DeadlineExceeded, true));
    assert!((200 * MS..1000 * MS).contains(&start.elapsed()), "{:?}", start.elapsed());
    let cancelled_after = until_backends(&spy, SLEEPING, 0).await;
    assert!(cancelled_after < 1000 * MS, "{cancelled_after:?}");
    assert_eq!(figure(&db, "cancelled"), 1.0);
}

#[tokio::test]
async fn a_deadline_that_has_passed_is_refused_before_anything_is_sent() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let passed = Deadline::at(Instant::now());
    let error = passed.scope(db.query(Query::new("select 1"))).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::DeadlineExceeded, false));
    let error = passed.scope(db.transaction(async |_| Ok::<_, Error>(()))).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::DeadlineExceeded, false));
    assert_eq!(figure(&db, "connections"), 0.0);
}

#[tokio::test]
async fn the_wait_for_a_connection_ends_with_the_deadline_or_the_wait_timeout() {
    let test = TestDatabase::new().await;
    let config = PostgresConfig::from_url(&test.url()).unwrap().with_pool_size(1).with_wait_timeout(200 * MS);
    let db = Postgres::new(config.with_name("waiting")).unwrap();
    let spy = spy(test.config()).await;
    let running = tokio::spawn(db.clone().oneshot(sleeper()));
    until_backends(&spy, SLEEPING, 1).await;

    let start = Instant::now();
    let error = Deadline::after(50 * MS).scope(db.query(Query::new("select 1"))).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::DeadlineExceeded, false));
    assert!(start.elapsed() >= 50 * MS);

    let start = Instant::now();
    let error = db.query(Query::new("select 1")).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::Overloaded, false));
    assert_eq!(error.rejected().unwrap().name(), "waiting");
    assert!((200 * MS..1000 * MS).contains(&start.elapsed()));
    running.abort();
}

#[tokio::test]
async fn the_whole_transaction_ends_with_the_deadline() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let transaction = db.transaction(async |tx| {
        tx.query(Query::new("insert into t values (1)")).await?;
        std::future::pending::<Result<(), Error>>().await
    });
    let error = Deadline::after(150 * MS).scope(transaction).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::DeadlineExceeded, true));
    until_backends(&spy, "true", 0).await;
    assert!(db.query(Query::new("select * from t")).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_closures_own_error_is_kept_when_the_deadline_passes_during_the_rollback() {
    let test = TestDatabase::new().await;
    let proxy = FaultProxy::start(test.addr()).await;
    let db = postgres(&test.url().replace(&test.addr().to_string(), &proxy.addr().to_string()), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let deadline = Deadline::after(300 * MS);
    let transaction = db.transaction(async |tx| {
        tx.query(Query::new("insert into t values (1)")).await?;
        proxy.set(Fault::Latency(500 * MS));
        Err::<(), _>(tx.query(Query::new("select :mine")).await.unwrap_err())
    });
    let error = deadline.scope(transaction).await.unwrap_err();
    assert!(matches!(&error, Error::Query { cause: QueryError::Missing(name), .. } if &**name == "mine"));
    assert!(deadline.remaining().is_zero(), "the answer to ROLLBACK came after it");
    assert_eq!((figure(&db, "discarded"), figure(&db, "cancelled")), (0.0, 0.0), "it was rolled back");
    proxy.set(Fault::Pass);
    assert!(db.query(Query::new("select * from t")).await.unwrap().is_empty());
}

/// Keeps the thread until the ambient deadline has passed, so that nothing else can notice it.
fn past_the_deadline() {
    assert!(Deadline::current().is_some());
    while !Deadline::has_expired() {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn a_commit_is_not_sent_too_late() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let transaction = db.transaction(async |tx| {
        tx.query(Query::new("insert into t values (1)")).await?;
        past_the_deadline();
        Ok::<_, Error>(())
    });
    let error = Deadline::after(100 * MS).scope(transaction).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::DeadlineExceeded, true));
    assert_eq!(figure(&db, "cancelled"), 1.0);
    assert!(db.query(Query::new("select * from t")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_transaction_that_sent_nothing_says_so() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("select 1")).await.unwrap();
    let idle = db.transaction(async |tx| {
        assert!(tx.query(Query::new("select :id::int8").bind("id", "text")).await.is_err());
        std::future::pending::<Result<(), Error>>().await
    });
    let error = Deadline::after(100 * MS).scope(idle).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::DeadlineExceeded, false));
    let busy = db.transaction(async |_| {
        past_the_deadline();
        Ok::<_, Error>(())
    });
    let error = Deadline::after(100 * MS).scope(busy).await.unwrap_err();
    assert_eq!(rejected(&error), (Reason::DeadlineExceeded, false));
}

#[tokio::test]
async fn a_call_that_is_moved_under_an_earlier_deadline_ends_with_it() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    for first in [None, Some(Deadline::after(Duration::from_secs(20)))] {
        for in_transaction in [false, true] {
            let mut call = Box::pin(async {
                match in_transaction {
                    false => db.query(sleeper()).await,
                    true => db.transaction(async |tx| tx.query(sleeper()).await).await,
                }
            });
            let begun = async {
                tokio::select! {
                    ended = &mut call => panic!("{ended:?}"),
                    _ = until_backends(&spy, SLEEPING, 1) => {}
                }
            };
            match first {
                None => begun.await,
                Some(first) => first.scope(begun).await,
            }
            let start = Instant::now();
            let error = Deadline::after(100 * MS).scope(call).await.unwrap_err();
            assert_eq!(rejected(&error), (Reason::DeadlineExceeded, true));
            assert!((100 * MS..1000 * MS).contains(&start.elapsed()), "{:?}", start.elapsed());
            until_backends(&spy, SLEEPING, 0).await;
        }
    }
}

#[tokio::test]
async fn waiters_are_served_in_their_order() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id serial, n int)")).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..20_i32 {
        let query = Query::new("insert into t (n) select :n from pg_sleep(0.005)").bind("n", n);
        calls.spawn(db.clone().oneshot(query));
        tokio::task::yield_now().await;
    }
    timeout(Duration::from_secs(3), async {
        while let Some(done) = calls.join_next().await {
            done.unwrap().unwrap();
        }
    })
    .await
    .unwrap();
    let rows = db.query(Query::new("select n from t order by id")).await.unwrap();
    let order: Vec<i32> = rows.iter().map(|row| row.get("n").unwrap()).collect();
    assert_eq!(order, (0..20).collect::<Vec<_>>());
}
