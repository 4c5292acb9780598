//! Rows as they come, in a transaction.

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Reason, Rejectable};
use buttress_postgres::{Error, Postgres, Query, QueryError, RowStream};
use buttress_testkit::TestDatabase;
use futures_util::TryStreamExt;
use support::{IN_TRANSACTION, backend, figure, postgres, spy, until_backends};
use tokio::{
    join,
    time::{Instant, timeout},
};

const SOON: Duration = Duration::from_secs(1);

/// More than fits into all buffers on the way.
fn many() -> Query {
    Query::new("select generate_series(1, 100000) as n, repeat('x', 200)")
}

async fn table(test: &TestDatabase) -> Postgres {
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    db
}

fn insert() -> Query {
    Query::new("insert into t values (1)")
}

async fn left(db: &Postgres) -> usize {
    timeout(SOON, db.query(Query::new("select * from t"))).await.expect("it waits for nobody").unwrap().len()
}

fn is_refused(result: Result<impl Sized, Error>) -> bool {
    matches!(result, Err(Error::Query { cause: QueryError::NotAlone, .. }))
}

#[tokio::test]
async fn other_statements_are_refused_until_it_is_at_its_end() {
    let test = TestDatabase::new().await;
    let db = table(&test).await;
    let before = backend(&db).await;
    let work = db.transaction(async |tx| {
        tx.query(insert()).await?;
        let mut rows = tx.stream(many()).await?;
        rows.try_next().await?.expect("there are rows");
        assert!(is_refused(tx.query(insert()).await) && is_refused(tx.stream(insert()).await));
        let mut count = 1;
        while rows.try_next().await?.is_some() {
            count += 1;
        }
        assert_eq!(rows.affected(), Some(100_000));
        tx.query(insert()).await?;
        Ok::<_, Error>(count)
    });
    assert_eq!(timeout(10 * SOON, work).await.expect("it does not hang").unwrap(), 100_000);
    assert_eq!(left(&db).await, 2, "a refused statement fails no transaction");
    assert_eq!(backend(&db).await, before);
}

#[tokio::test]
async fn statements_at_the_same_time_do_not_wait_for_each_other() {
    let test = TestDatabase::new().await;
    let db = table(&test).await;
    let work = db.transaction(async |tx| {
        let (first, rows, late) = join!(tx.query(insert()), tx.stream(many()), tx.query(insert()));
        assert!(first.is_ok() && is_refused(rows) && late.is_ok());
        let (rows, late) = join!(tx.stream(many()), tx.query(insert()));
        assert!(is_refused(late));
        rows?.try_for_each(async |_| Ok(())).await
    });
    timeout(10 * SOON, work).await.expect("it does not hang").unwrap();
    assert_eq!(left(&db).await, 2);
}

#[tokio::test]
async fn one_that_is_dropped_rolls_back() {
    let test = TestDatabase::new().await;
    let (db, spy) = (table(&test).await, spy(test.config()).await);
    let before = backend(&db).await;
    let result = db
        .transaction(async |tx| {
            tx.query(insert()).await?;
            let mut rows = tx.stream(many()).await?;
            rows.try_next().await?;
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");
    assert_eq!(left(&db).await, 0);
    assert_ne!(backend(&db).await, before, "an unfinished connection was handed on");
    until_backends(&spy, IN_TRANSACTION, 0).await;
    until_backends(&spy, "true", 1).await;
}

#[tokio::test]
async fn one_that_is_forgotten_holds_up_nobody() {
    let test = TestDatabase::new().await;
    let (db, spy) = (table(&test).await, spy(test.config()).await);
    for (fails, db) in [(false, db), (true, postgres(&test.url(), 1))] {
        let work = db.transaction(async |tx| {
            tx.query(insert()).await?;
            std::mem::forget(tx.stream(many()).await?);
            if fails { tx.query(Query::new("select 1")).await.map(drop) } else { Ok(()) }
        });
        let result = timeout(SOON, work).await.expect("it does not hang");
        let expected = if fails {
            matches!(result, Err(Error::Query { cause: QueryError::NotAlone, .. }))
        } else {
            matches!(result, Err(Error::RolledBack { .. }))
        };
        assert!(expected, "{result:?}");
        assert_eq!(left(&db).await, 0);
    }
    // The request to cancel has its time first.
    until_backends(&spy, "state = 'active'", 0).await;
}

#[tokio::test]
async fn one_that_fails_fails_the_transaction_and_the_connection_goes_back() {
    let test = TestDatabase::new().await;
    let db = table(&test).await;
    let before = backend(&db).await;
    let result = db
        .transaction(async |tx| {
            tx.query(insert()).await?;
            let divided = Query::new("select 1 / (5000 - n) from generate_series(1, 10000) n");
            let came = tx.stream(divided).await?.try_fold(0, async |came, _| Ok(came + 1)).await;
            assert_eq!(came.unwrap_err().sqlstate().map(|state| state.code()), Some("22012"));
            let error = tx.query(insert()).await.unwrap_err();
            assert_eq!(error.sqlstate().map(|state| state.code()), Some("25P02"));
            let error = tx.stream(insert()).await.unwrap_err();
            assert_eq!(error.sqlstate().map(|state| state.code()), Some("25P02"));
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");
    assert_eq!((left(&db).await, backend(&db).await), (0, before));
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn one_that_cannot_begin_does_not_stay_open() {
    let test = TestDatabase::new().await;
    let db = table(&test).await;
    let work = db.transaction(async |tx| {
        let error = tx.stream(Query::new("select :mine")).await.unwrap_err();
        assert!(matches!(error, Error::Query { cause: QueryError::Missing(_), .. }), "{error}");
        tx.query(insert()).await
    });
    work.await.unwrap();
    assert_eq!(left(&db).await, 1);
}

#[tokio::test]
async fn the_deadline_of_the_transaction_holds_for_it() {
    let test = TestDatabase::new().await;
    let (db, spy) = (table(&test).await, spy(test.config()).await);
    let deadline = Deadline::after(Duration::from_millis(300));
    let work = db.transaction(async |tx| {
        tx.query(insert()).await?;
        let mut rows = tx.stream(Query::new("select generate_series(1, 2147483647)")).await?;
        while rows.try_next().await?.is_some() {}
        Ok::<_, Error>(())
    });
    let error = timeout(5 * SOON, deadline.scope(work)).await.expect("it ends").unwrap_err();
    assert_eq!(error.rejected().map(buttress_core::Rejected::reason), Some(Reason::DeadlineExceeded));
    assert!(error.sent() && deadline.remaining().is_zero());
    assert_eq!(left(&db).await, 0);
    until_backends(&spy, "state <> 'idle'", 0).await;
}

#[tokio::test]
async fn a_deadline_of_its_own_holds_while_it_is_opened() {
    let test = TestDatabase::new().await;
    let db = table(&test).await;
    let exceeded = |result: Result<RowStream<'_>, Error>| {
        let error = result.expect_err("it is too late");
        assert_eq!(error.rejected().map(buttress_core::Rejected::reason), Some(Reason::DeadlineExceeded));
        error.sent()
    };
    // Refused, it does no harm.
    let passed = Deadline::at(Instant::now());
    let refused = db.transaction(async |tx| {
        assert!(!exceeded(passed.scope(tx.stream(many())).await));
        tx.query(insert()).await
    });
    refused.await.unwrap();
    assert_eq!(left(&db).await, 1);

    let late = db.transaction(async |tx| {
        let start = Instant::now();
        let slow = tx.stream(Query::new("select pg_sleep(3)"));
        assert!(exceeded(Deadline::after(Duration::from_millis(100)).scope(slow).await));
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        Ok::<_, Error>(())
    });
    assert!(matches!(late.await, Err(Error::RolledBack { .. })));
}
