//! What a dropped future leaves behind, on a real server: nothing.

mod support;

use std::{panic::AssertUnwindSafe, time::Duration};

use buttress_postgres::{Error, Postgres, Query, QueryError};
use buttress_testkit::TestDatabase;
use futures_util::FutureExt;
use support::{IN_TRANSACTION, SLEEPING, backend, backends, figure, postgres, spy, until_backends};
use tokio::time::{Instant, timeout};
use tower::ServiceExt;

/// Statements that are given up would run for 30 s.
const SOON: Duration = Duration::from_secs(1);

fn sleeper() -> Query {
    Query::new("select pg_sleep(:seconds)").bind("seconds", 30_f64)
}

/// The next borrower gets a clean, idle connection of its own, soon.
async fn next_borrower_is_fine(db: &Postgres, before: i32) {
    let start = Instant::now();
    let query = Query::new("select pg_backend_pid(), pg_current_xact_id_if_assigned()::text");
    let row = timeout(SOON, db.query(query)).await.expect("it waits for nobody").unwrap().one().unwrap();
    assert_ne!(row.get::<i32>(0).unwrap(), before, "an unfinished connection was handed on");
    assert_eq!(row.get::<Option<&str>>(1).unwrap(), None, "it is in a transaction of another");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[tokio::test]
async fn regression_32_a_dropped_query_is_cancelled_and_the_next_borrower_does_not_wait() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    let before = backend(&db).await;

    let running = tokio::spawn(db.clone().oneshot(sleeper()));
    until_backends(&spy, SLEEPING, 1).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());

    next_borrower_is_fine(&db, before).await;
    let cancelled_after = until_backends(&spy, SLEEPING, 0).await;
    assert!(cancelled_after < SOON, "{cancelled_after:?}");
    until_backends(&spy, "true", 1).await;
    assert_eq!((figure(&db, "cancelled"), figure(&db, "discarded")), (1.0, 1.0));
    assert_eq!((figure(&db, "connections"), figure(&db, "connections_idle")), (1.0, 1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn regression_32_a_query_dropped_at_any_time_leaves_nothing_running() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 2), spy(test.config()).await);
    // From not yet polled, over connecting and preparing, to running: a request to cancel that overtakes its statement
    // must not be lost.
    for step in 0..200_u64 {
        let limit = Duration::from_micros(step * 20);
        let _cut_off = timeout(limit, db.query(sleeper())).await.unwrap_err();
        if step % 50 == 0 {
            timeout(SOON, db.query(Query::new("select 1"))).await.expect("it waits for nobody").unwrap();
        }
    }
    let cancelled_after = until_backends(&spy, SLEEPING, 0).await;
    assert!(cancelled_after < SOON, "{cancelled_after:?}");
    timeout(SOON, db.query(Query::new("select 1"))).await.expect("no place in the pool was lost").unwrap();
    assert_eq!(figure(&db, "waiting"), 0.0);
}

#[tokio::test]
async fn regression_32_a_transaction_that_is_dropped_is_rolled_back() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    db.query(Query::new("create table t (id int)")).await.unwrap();

    // Between two statements.
    let before = backend(&db).await;
    let transaction = db.transaction(async |tx| {
        tx.query(Query::new("insert into t values (1)")).await?;
        std::future::pending::<Result<(), Error>>().await
    });
    assert!(timeout(Duration::from_millis(100), transaction).await.is_err());
    next_borrower_is_fine(&db, before).await;
    until_backends(&spy, IN_TRANSACTION, 0).await;

    // In a statement.
    let before = backend(&db).await;
    let transaction = db.transaction(async |tx| {
        tx.query(Query::new("insert into t values (2)")).await?;
        tx.query(sleeper()).await
    });
    assert!(timeout(Duration::from_millis(100), transaction).await.is_err());
    next_borrower_is_fine(&db, before).await;
    until_backends(&spy, SLEEPING, 0).await;
    until_backends(&spy, "true", 1).await;

    let left = db.query(Query::new("select * from t")).await.unwrap();
    assert!(left.is_empty());
}

#[tokio::test]
async fn regression_32_a_transaction_that_panics_is_rolled_back() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let before = backend(&db).await;

    let transaction = db.transaction(async |tx| {
        tx.query(Query::new("insert into t values (1)")).await?;
        assert!(std::hint::black_box(false), "on purpose");
        Ok::<_, Error>(())
    });
    assert!(AssertUnwindSafe(transaction).catch_unwind().await.is_err());

    next_borrower_is_fine(&db, before).await;
    until_backends(&spy, IN_TRANSACTION, 0).await;
    assert!(db.query(Query::new("select * from t")).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_statement_given_up_inside_of_a_transaction_ends_it() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let before = backend(&db).await;

    let result = db
        .transaction(async |tx| {
            tx.query(Query::new("insert into t values (1)")).await?;
            assert!(timeout(Duration::from_millis(50), tx.query(sleeper())).await.is_err());
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");

    next_borrower_is_fine(&db, before).await;
    until_backends(&spy, SLEEPING, 0).await;
    assert!(db.query(Query::new("select * from t")).await.unwrap().is_empty());
}

#[tokio::test]
async fn regression_32_no_statement_can_leave_a_transaction_open() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    for text in ["begin", "--x\rBEGIN", "; start transaction", "prepare transaction 'x'"] {
        let error = db.query(Query::new(text)).await.unwrap_err();
        assert!(
            matches!(error, Error::Query { cause: QueryError::TransactionControl(_), .. }),
            "{text}: {error}"
        );
        assert!(error.to_string().contains("use `transaction()`"), "{error}");
    }
    // What comes behind a semicolon is refused by the server: a prepared text is one statement.
    let error = db.query(Query::new("select 1; begin")).await.unwrap_err();
    assert_eq!(error.sqlstate().map(|state| state.code()), Some("42601"));
    assert_eq!(backends(&spy, IN_TRANSACTION).await, 0);
    assert_eq!(figure(&db, "discarded"), 0.0, "a refused statement does the connection no harm");
}

#[tokio::test]
async fn a_query_that_is_never_polled_takes_nothing() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    drop(db.query(sleeper()));
    drop(db.clone().oneshot(sleeper()));
    assert_eq!(figure(&db, "connections"), 0.0);
    backend(&db).await;
}

#[test]
fn a_future_dropped_after_its_runtime_does_no_harm() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (test, db, spying, query) = runtime.block_on(async {
        let test = TestDatabase::new().await;
        let db = postgres(&test.url(), 1);
        let spying = spy(test.config()).await;
        let mut query = Box::pin(db.clone().oneshot(sleeper()));
        assert!(timeout(Duration::from_millis(100), &mut query).await.is_err());
        until_backends(&spying, SLEEPING, 1).await;
        (test, db, spying, query)
    });
    drop(query);
    drop((db, spying));
    drop(runtime);
    drop(test);
}

#[tokio::test]
async fn a_server_that_does_not_cancel_is_not_given_ever_more_connections() {
    const ACTIVE: &str = "state = 'active'";
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 4), spy(test.config()).await);
    spy.batch_execute(
        "create function stubborn() returns void language plpgsql as $$
         declare last timestamptz := clock_timestamp() + interval '1.5 s';
         begin
            while clock_timestamp() < last loop
                begin perform pg_sleep(0.5); exception when query_canceled then null; end;
            end loop;
         end $$",
    )
    .await
    .unwrap();
    let mut most = 0;
    for round in 1..=5 {
        // One place is left for what is made in the background.
        let running: Vec<_> =
            (0..3).map(|_| tokio::spawn(db.clone().oneshot(Query::new("select stubborn()")))).collect();
        match round {
            1 | 2 => drop(until_backends(&spy, ACTIVE, round * 3).await),
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        most = most.max(backends(&spy, ACTIVE).await);
        running.iter().for_each(tokio::task::JoinHandle::abort);
        for aborted in running {
            assert!(aborted.await.unwrap_err().is_cancelled());
        }
    }
    assert!((6..=8).contains(&most), "{most} statements at a time, where twice the pool's size is the limit");

    until_backends(&spy, ACTIVE, 0).await;
    timeout(SOON, db.query(Query::new("select 1"))).await.expect("there are places again").unwrap();
}
