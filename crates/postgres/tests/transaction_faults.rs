//! Transactions that are run again and nested ones, where the server or the caller goes away.

mod support;

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use buttress_core::{Backoff, Deadline, Reason, Rejectable};
use buttress_postgres::{Error, Isolation, Postgres, Query, Transaction, TransactionOptions};
use buttress_testkit::{Fault, FaultProxy, PostgresServer, TestDatabase};
use support::{IN_TRANSACTION, backend, figure, postgres, spy, until_backends};
use tokio::time::{Instant, sleep, timeout};

const MS: Duration = Duration::from_millis(1);

/// Runs again at once, and often.
fn eager() -> TransactionOptions {
    let options = TransactionOptions::new().with_isolation(Isolation::Serializable);
    options.with_backoff(Backoff::constant(Duration::ZERO)).with_retries(20)
}

fn conflict() -> Query {
    Query::new("do $$ begin raise sqlstate '40001'; end $$")
}

fn insert() -> Query {
    Query::new("insert into t values (1)")
}

async fn count(db: &Postgres) -> i64 {
    db.query(Query::new("select count(*) from t")).await.unwrap().one().unwrap().get(0).unwrap()
}

/// A table into which an insert makes `COMMIT` take so long.
async fn slow_to_commit(db: &Postgres, seconds: f64) {
    for sql in [
        "create table t (id int)".to_owned(),
        format!(
            "create function slow() returns trigger language plpgsql as
             $$ begin perform pg_sleep({seconds}); return null; end $$"
        ),
        "create constraint trigger slow after insert on t deferrable initially deferred
             for each row execute function slow()"
            .to_owned(),
    ] {
        db.query(Query::new(sql)).await.unwrap();
    }
}

const COMMITTING: &str = "state = 'active' and query = 'COMMIT'";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_in_the_closure_or_in_commit_is_not_asked_again() {
    let server = PostgresServer::start().await;
    let db = postgres(&server.url(), 2);
    slow_to_commit(&db, 30.0).await;
    for (waits_in, statement) in
        [("query like '%pg_sleep(30)'", "select pg_sleep(30)"), (COMMITTING, "insert into t values (1)")]
    {
        let spy = spy(server.config()).await;
        let runs = AtomicU32::new(0);
        let work = db.transaction_with(eager(), async |tx| {
            runs.fetch_add(1, Relaxed);
            tx.transaction(async |tx| tx.query(Query::new(statement)).await).await.map(drop)
        });
        let killed = async {
            until_backends(&spy, waits_in, 1).await;
            server.kill().await;
        };
        let (result, ()) = timeout(5000 * MS, async { tokio::join!(work, killed) }).await.expect("it hangs");
        let error = result.unwrap_err();
        match waits_in {
            // The server may have had the time to say why.
            COMMITTING => assert!(matches!(error, Error::CommitUncertain { .. }), "{error}"),
            _ => assert!(
                matches!(error, Error::Lost { .. } | Error::Database { .. }) && error.sent(),
                "{error}"
            ),
        }
        assert_eq!(runs.into_inner(), 1);
        server.restart().await;
        assert_eq!(count(&db).await, 0);
    }
    assert_eq!(figure(&db, "transactions_retried"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_between_two_runs_is_met_by_the_next() {
    let server = PostgresServer::start().await;
    let db = postgres(&server.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let waiting = eager().with_backoff(Backoff::constant(1000 * MS));
    for comes_back in [false, true] {
        let runs = AtomicU32::new(0);
        let work = db.transaction_with(waiting, async |tx| {
            tx.query(insert()).await?;
            if runs.fetch_add(1, Relaxed) == 0 {
                tx.query(conflict()).await
            } else {
                tx.query(insert()).await
            }
        });
        let killed = async {
            while runs.load(Relaxed) < 1 || figure(&db, "connections_idle") < 1.0 {
                sleep(MS).await;
            }
            server.kill().await;
            if comes_back {
                server.restart().await;
            }
        };
        let (result, ()) =
            timeout(10_000 * MS, async { tokio::join!(work, killed) }).await.expect("it hangs");
        if comes_back {
            result.unwrap();
            assert_eq!((runs.into_inner(), count(&db).await), (2, 2));
        } else {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Connect { .. }), "{error}");
            assert_eq!(runs.into_inner(), 1);
            server.restart().await;
            assert_eq!(count(&db).await, 0);
        }
    }
}

/// A proxy in front of the test's database, and a pool of one that goes through it.
async fn through_a_proxy(test: &TestDatabase) -> (FaultProxy, Postgres) {
    let proxy = FaultProxy::start(test.addr()).await;
    let url = test.url().replace(&test.addr().to_string(), &proxy.addr().to_string());
    (proxy, postgres(&url, 1))
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_not_repeated() {
    let test = TestDatabase::new().await;
    let spy = spy(test.config()).await;
    let (proxy, db) = through_a_proxy(&test).await;
    slow_to_commit(&db, 0.3).await;
    for by_deadline in [false, true] {
        let runs = AtomicU32::new(0);
        let work = db.transaction_with(eager(), async |tx| {
            runs.fetch_add(1, Relaxed);
            tx.query(insert()).await
        });
        let result = if by_deadline {
            Deadline::after(150 * MS).scope(work).await
        } else {
            let cut = async {
                until_backends(&spy, COMMITTING, 1).await;
                proxy.cut();
            };
            tokio::join!(work, cut).0
        };
        let error = result.unwrap_err();
        assert!(matches!(error, Error::CommitUncertain { .. }), "{error}");
        assert_eq!(runs.into_inner(), 1);
        until_backends(&spy, "state = 'active'", 0).await;
    }
    assert_eq!(figure(&db, "transactions_retried"), 0.0);
}

#[tokio::test]
async fn a_connection_lost_in_a_later_run_is_not_repeated_and_before_it_is_replaced() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let runs = AtomicU32::new(0);
    let lost = db
        .transaction_with(eager(), async |tx| {
            if runs.fetch_add(1, Relaxed) == 0 {
                return tx.query(conflict()).await;
            }
            tx.query(insert()).await?;
            proxy.cut();
            tx.query(insert()).await
        })
        .await;
    assert!(matches!(lost, Err(Error::Lost { .. })), "{lost:?}");
    assert_eq!(runs.swap(0, Relaxed), 2);

    // After a conflict, too: nothing more is known of it.
    let lost = db
        .transaction_with(eager(), async |tx| {
            runs.fetch_add(1, Relaxed);
            tx.query(conflict()).await.unwrap_err();
            proxy.cut();
            tx.query(insert()).await
        })
        .await;
    assert!(matches!(lost, Err(Error::Lost { .. })), "{lost:?}");
    assert_eq!(runs.swap(0, Relaxed), 1);

    // In a savepoint, too.
    let lost = db
        .transaction_with(eager(), async |tx| {
            runs.fetch_add(1, Relaxed);
            tx.query(insert()).await?;
            let inner = tx.transaction(async |tx| {
                proxy.cut();
                tx.query(insert()).await
            });
            inner.await.unwrap_err();
            tx.query(insert()).await
        })
        .await;
    assert!(matches!(lost, Err(Error::Query { .. })), "the outer one is refused: {lost:?}");
    assert_eq!(runs.swap(0, Relaxed), 1);

    let options = eager().with_backoff(Backoff::constant(100 * MS));
    let work = db.transaction_with(options, async |tx| {
        if runs.fetch_add(1, Relaxed) == 0 { tx.query(conflict()).await } else { tx.query(insert()).await }
    });
    let cut = async {
        while runs.load(Relaxed) < 1 || figure(&db, "connections_idle") < 1.0 {
            tokio::task::yield_now().await;
        }
        proxy.cut();
    };
    tokio::join!(work, cut).0.unwrap();
    assert_eq!((runs.into_inner(), count(&db).await), (2, 1));
}

#[tokio::test]
async fn a_conflict_that_cuts_off_a_statement_beside_it_is_run_again() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let runs = Cell::new(0);
    let result = db
        .transaction_with(eager(), async |tx| {
            runs.set(runs.get() + 1);
            let mut beside = Box::pin(tx.query(insert()));
            // As `try_join!` does it, where the conflict is told first.
            assert!(poll_fn(|cx| Poll::Ready(beside.as_mut().poll(cx).is_pending())).await);
            if runs.get() == 1 {
                tx.query(conflict()).await?;
            }
            beside.await
        })
        .await;
    assert!(result.is_ok(), "{:?}", result.err());
    assert_eq!((runs.get(), count(&db).await), (2, 1));
    // What was cut off is unfinished there.
    assert_eq!(figure(&db, "discarded"), 1.0);

    // Whichever of the two is polled first.
    for _ in 0..20 {
        let first = Cell::new(true);
        let result = db
            .transaction_with(eager(), async |tx| {
                let one = if first.replace(false) { conflict() } else { insert() };
                tokio::try_join!(tx.query(one), tx.query(insert()))
            })
            .await;
        assert!(result.is_ok(), "{:?}", result.err());
    }
}

#[tokio::test]
async fn the_deadline_holds_for_all_runs_and_inside_of_savepoints() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let sleeps = db.transaction_with(eager(), async |tx| {
        tx.query(insert()).await?;
        tx.transaction(async |tx| tx.query(Query::new("select pg_sleep(30)")).await).await
    });
    let error = Deadline::after(150 * MS).scope(sleeps).await.unwrap_err();
    let rejected = error.rejected().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::DeadlineExceeded, true));
    until_backends(&spy, "true", 0).await;

    // Runs that would go on for ever.
    let start = Instant::now();
    let options = eager().with_retries(u32::MAX).with_backoff(Backoff::constant(10 * MS));
    let conflicts = db.transaction_with(options, async |tx| tx.query(conflict()).await);
    let error = Deadline::after(200 * MS).scope(conflicts).await.unwrap_err();
    let conflicts = error.sqlstate().is_some_and(|state| state.code() == "40001");
    assert!(conflicts || error.rejected().is_some(), "it passed in a wait or in a run: {error}");
    assert!((150 * MS..1000 * MS).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(figure(&db, "transactions_retried") > 3.0);

    let passed = Deadline::at(Instant::now());
    let never = async |_: &Transaction<'_>| -> Result<(), Error> { panic!("it is too late") };
    let error = passed.scope(db.transaction_with(eager(), never)).await.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.reason()), Some(Reason::DeadlineExceeded));
    assert_eq!(count(&db).await, 0);
}

#[tokio::test]
async fn a_server_that_falls_silent_in_a_savepoint_costs_the_connection_and_no_more() {
    let test = TestDatabase::new().await;
    let (proxy, db) = through_a_proxy(&test).await;
    db.query(Query::new("create table t (id int)")).await.unwrap();
    // The answer to ROLLBACK TO takes longer than the recycle timeout of 2 s; the closure's error comes all the same.
    let start = Instant::now();
    let result = db
        .transaction(async |tx| {
            let inner = tx
                .transaction(async |tx| {
                    tx.query(insert()).await?;
                    proxy.set(Fault::BlackHole);
                    tx.query(Query::new("select :mine")).await
                })
                .await;
            assert!(matches!(inner, Err(Error::Query { .. })), "{inner:?}");
            assert!(matches!(tx.query(insert()).await, Err(Error::Query { .. })), "it is refused at once");
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");
    assert!(start.elapsed() < 5000 * MS, "{:?}", start.elapsed());
    proxy.set(Fault::Pass);
    assert_eq!(count(&db).await, 0);
}

/// Polls a future so often, and drops it then.
async fn drop_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn a_call_dropped_at_any_await_leaves_nothing() {
    let test = TestDatabase::new().await;
    let (db, spy) = (postgres(&test.url(), 1), spy(test.config()).await);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let options = eager().with_backoff(Backoff::constant(MS));
    let mut committed = 0;
    for polls in 1.. {
        let before = backend(&db).await;
        let cancelled = figure(&db, "cancelled");
        let runs = AtomicU32::new(0);
        let work = db.transaction_with(options, async |tx| {
            tx.query(insert()).await?;
            tx.transaction(async |tx| tx.query(insert()).await).await?;
            if runs.fetch_add(1, Relaxed) == 0 {
                tx.query(conflict()).await
            } else {
                tx.query(insert()).await
            }
        });
        let done = drop_after(polls, work).await;

        // The pool has one connection, and it is there at once, idle and clean.
        let soon = timeout(1000 * MS, backend(&db)).await.expect("no place in the pool was lost");
        assert!(soon == before || figure(&db, "cancelled") > cancelled, "discarded without a reason");
        until_backends(&spy, IN_TRANSACTION, 0).await;
        until_backends(&spy, "true", 1).await;
        let rows = count(&db).await - committed;
        committed += rows;
        if let Some(result) = done {
            result.unwrap();
            assert_eq!((rows, runs.into_inner()), (3, 2));
            // Twice: BEGIN, a statement, SAVEPOINT, a statement, RELEASE, a statement, the end; and the wait between.
            assert!(polls >= 15, "{polls}");
            break;
        }
        // COMMIT may have been on its way.
        assert!(rows == 0 || rows == 3, "{polls}: half a transaction: {rows} rows");
    }
    assert!(figure(&db, "cancelled") >= 13.0);
}
