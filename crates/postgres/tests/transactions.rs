//! Closures that are run again after conflicts.

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Backoff, Deadline};
use buttress_postgres::{Error, Isolation, Postgres, Query, Transaction, TransactionOptions};
use buttress_testkit::TestDatabase;
use support::{figure, postgres};
use tokio::{sync::Barrier, time::Instant};

const SERIALIZABLE: TransactionOptions = TransactionOptions::new().with_isolation(Isolation::Serializable);

fn at_once() -> TransactionOptions {
    TransactionOptions::new().with_backoff(Backoff::constant(Duration::ZERO))
}

/// What the server says when it refuses to serialize.
fn conflict() -> Query {
    Query::new("do $$ begin raise sqlstate '40001'; end $$")
}

fn code<T>(result: Result<T, Error>) -> String {
    let Err(error) = result else { panic!("it succeeded") };
    error.sqlstate().unwrap_or_else(|| panic!("{error}")).code().to_owned()
}

async fn number(db: &Postgres, sql: &'static str) -> i64 {
    db.query(Query::new(sql)).await.unwrap().one().unwrap().get(0).unwrap()
}

async fn doctors(names: &[&str]) -> (TestDatabase, Postgres) {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 10);
    db.query(Query::new("create table doctors (name text primary key, on_call bool default true)"))
        .await
        .unwrap();
    for name in names {
        let insert = Query::new("insert into doctors values (:name)").bind("name", (*name).to_owned());
        db.query(insert).await.unwrap();
    }
    (test, db)
}

/// Goes off call, if another one stays: one of two that do so at once must not.
async fn leave(
    db: Postgres,
    options: TransactionOptions,
    name: String,
    both_have_seen: Arc<Barrier>,
) -> Result<(), Error> {
    let runs = AtomicU32::new(0);
    db.transaction_with(options, async |tx| {
        let on_call: i64 =
            tx.query(Query::new("select count(*) from doctors where on_call")).await?.one()?.get(0)?;
        if runs.fetch_add(1, Relaxed) == 0 {
            both_have_seen.wait().await;
        }
        if on_call > 1 {
            let off = Query::new("update doctors set on_call = false where name = :name")
                .bind("name", name.clone());
            tx.query(off).await?;
        }
        Ok(())
    })
    .await
}

async fn all_leave(db: &Postgres, options: TransactionOptions, names: &[&str]) -> Vec<Result<(), Error>> {
    let both_have_seen = Arc::new(Barrier::new(names.len()));
    // Spawned, so that their futures must be `Send`.
    let leaving: Vec<_> = names
        .iter()
        .map(|name| tokio::spawn(leave(db.clone(), options, (*name).to_owned(), both_have_seen.clone())))
        .collect();
    let mut results = Vec::new();
    for leaver in leaving {
        results.push(leaver.await.unwrap());
    }
    results
}

const ON_CALL: &str = "select count(*) from doctors where on_call";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_skew_is_repeated_away_under_serializable() {
    let names = ["Ada", "Bob", "Cyd", "Dan", "Eve", "Fay"];
    let (_test, db) = doctors(&names).await;
    for result in all_leave(&db, SERIALIZABLE.with_retries(50), &names).await {
        result.unwrap();
    }
    assert_eq!(number(&db, ON_CALL).await, 1);
    let retried = figure(&db, "transactions_retried");
    assert!(retried >= 1.0, "{retried}");
    assert_eq!((figure(&db, "transactions"), figure(&db, "discarded")), (6.0, 0.0));
}

#[tokio::test]
async fn write_skew_is_an_error_without_repetition_and_a_wrong_result_below_serializable() {
    let (_test, db) = doctors(&["Ada", "Bob"]).await;
    let results = all_leave(&db, SERIALIZABLE.with_retries(0), &["Ada", "Bob"]).await;
    let (left, refused): (Vec<_>, Vec<_>) = results.into_iter().partition(Result::is_ok);
    assert_eq!((left.len(), refused.len()), (1, 1));
    for result in refused {
        assert_eq!(code(result), "40001");
    }
    assert_eq!(number(&db, ON_CALL).await, 1);
    assert_eq!(figure(&db, "transactions_retried"), 0.0);

    let (_test, db) = doctors(&["Ada", "Bob"]).await;
    let level = TransactionOptions::new().with_isolation(Isolation::RepeatableRead);
    assert!(all_leave(&db, level, &["Ada", "Bob"]).await.iter().all(Result::is_ok));
    assert_eq!(number(&db, ON_CALL).await, 0, "the level of isolation has no effect");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_repeated_away() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 4);
    db.query(Query::new("create table t as select id, 0 as n from generate_series(1, 2) id")).await.unwrap();
    let both_have_one = Arc::new(Barrier::new(2));
    let both = [[1, 2], [2, 1]].map(|order| {
        let (db, both_have_one) = (db.clone(), both_have_one.clone());
        tokio::spawn(async move {
            let runs = AtomicU32::new(0);
            db.transaction_with(TransactionOptions::new(), async |tx| {
                let run = runs.fetch_add(1, Relaxed);
                tx.query(Query::new("set local deadlock_timeout = '20ms'")).await?;
                for (nth, id) in order.into_iter().enumerate() {
                    tx.query(Query::new("update t set n = n + 1 where id = :id").bind("id", id)).await?;
                    if nth == 0 && run == 0 {
                        both_have_one.wait().await;
                    }
                }
                Ok::<_, Error>(())
            })
            .await
        })
    });
    for one in both {
        one.await.unwrap().unwrap();
    }
    assert_eq!(
        number(&db, "select (min(n) + max(n) * 10)::bigint from t").await,
        22,
        "each has added one to both, once"
    );
    assert!(figure(&db, "transactions_retried") >= 1.0);
}

/// An error with neither a way back to the server's, nor any other trait.
struct Mine;

impl From<Error> for Mine {
    fn from(_: Error) -> Self {
        Self
    }
}

#[tokio::test]
async fn the_servers_word_decides_whatever_the_closure_makes_of_it() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let insert = |id: i32| Query::new("insert into t values (:id)").bind("id", id);

    let mut results = Vec::new();
    for kind in 0..4 {
        let runs = AtomicU32::new(0);
        let result = db
            .transaction_with(at_once(), async |tx| {
                let run = runs.fetch_add(1, Relaxed);
                tx.query(insert(kind)).await?;
                if run < 3 {
                    match kind {
                        0 => drop(tx.query(conflict()).await?),
                        1 => tx.query(conflict()).await.map(drop).map_err(|_| Mine)?,
                        // Swallowed: the server cannot commit.
                        2 => assert!(tx.query(conflict()).await.is_err()),
                        // A savepoint cannot cure it.
                        _ => {
                            let inner = tx.transaction(async |tx| tx.query(conflict()).await.map(drop)).await;
                            assert_eq!(code(inner), "40001");
                            assert_eq!(code(tx.query(insert(9)).await), "25P02");
                        }
                    }
                }
                Ok::<_, Mine>(kind)
            })
            .await;
        assert_eq!(runs.into_inner(), 4);
        results.push(result.ok());
    }
    assert_eq!(results, [Some(0), Some(1), Some(2), Some(3)]);
    assert_eq!(number(&db, "select sum(id + 1) * 10 + count(*) from t").await, 104, "each is there once");
    assert_eq!((figure(&db, "transactions_retried"), figure(&db, "discarded")), (12.0, 0.0));
    assert_eq!(figure(&db, "connections_idle"), 1.0);
}

#[tokio::test]
async fn a_commit_that_conflicts_is_repeated() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    // What a sequence counts is not rolled back.
    for sql in [
        "create sequence commits",
        "create table t (id int)",
        "create function refuse() returns trigger language plpgsql as $$ begin
             if nextval('commits') < 3 then raise sqlstate '40P01'; end if; return null; end $$",
        "create constraint trigger refuse after insert on t deferrable initially deferred
             for each row execute function refuse()",
    ] {
        db.query(Query::new(sql)).await.unwrap();
    }
    let work = async |tx: &Transaction<'_>| tx.query(Query::new("insert into t values (1)")).await.map(drop);
    assert_eq!(code(db.transaction_with(at_once().with_retries(1), work).await), "40P01");
    db.transaction_with(at_once(), work).await.unwrap();
    assert_eq!(number(&db, "select count(*) from t").await, 1);
    assert_eq!((figure(&db, "transactions_retried"), figure(&db, "discarded")), (1.0, 0.0));
}

#[tokio::test]
async fn nothing_else_is_repeated_and_the_last_error_is_returned() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let runs = AtomicU32::new(0);
    for sql in ["select 1 / 0", "select nothing", "do $$ begin raise sqlstate '40002'; end $$"] {
        let result = db
            .transaction_with(at_once(), async |tx| {
                runs.fetch_add(1, Relaxed);
                tx.query(Query::new(sql)).await
            })
            .await;
        result.unwrap_err();
    }
    let own = db
        .transaction_with(at_once(), async |tx| {
            runs.fetch_add(1, Relaxed);
            tx.query(Query::new("select 1")).await?;
            Err::<(), _>(Mine)
        })
        .await;
    assert!(own.is_err());
    let swallowed = db
        .transaction_with(at_once(), async |tx| {
            runs.fetch_add(1, Relaxed);
            assert!(tx.query(Query::new("select 1 / 0")).await.is_err());
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(swallowed, Err(Error::RolledBack { .. })), "{swallowed:?}");
    assert_eq!((runs.swap(0, Relaxed), figure(&db, "transactions_retried")), (5, 0.0));

    // Five runs are all.
    let result = db
        .transaction_with(at_once(), async |tx| {
            let run = runs.fetch_add(1, Relaxed);
            tx.query(conflict()).await.map(drop).map_err(|_| run)?;
            Ok(())
        })
        .await;
    assert_eq!(result.map_err(|Run(last)| last), Err(4));

    // A plain one is run once.
    assert_eq!(code(db.transaction(async |tx| tx.query(conflict()).await).await), "40001");
    assert_eq!(figure(&db, "transactions_retried"), 4.0);
}

/// The run that failed.
#[derive(Debug, PartialEq)]
struct Run(u32);

impl From<u32> for Run {
    fn from(run: u32) -> Self {
        Self(run)
    }
}

impl From<Error> for Run {
    fn from(error: Error) -> Self {
        panic!("{error}")
    }
}

#[tokio::test]
async fn the_wait_between_runs_holds_no_connection_and_ends_before_the_deadline() {
    const WAIT: Duration = Duration::from_millis(300);
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    let options = TransactionOptions::new().with_backoff(Backoff::constant(WAIT)).with_retries(2);
    let runs = AtomicU32::new(0);
    let work = async |tx: &Transaction<'_>| {
        runs.fetch_add(1, Relaxed);
        tx.query(conflict()).await.map(drop)
    };

    // The pool has one connection, and others get it meanwhile.
    let start = Instant::now();
    let others = async {
        while runs.load(Relaxed) < 1 || figure(&db, "connections_idle") < 1.0 {
            tokio::task::yield_now().await;
        }
        number(&db, "select 1::bigint").await;
        assert!(start.elapsed() < WAIT, "{:?}", start.elapsed());
    };
    let (result, ()) = tokio::join!(db.transaction_with(options, work), others);
    assert_eq!(code(result), "40001");
    assert!(start.elapsed() >= WAIT * 2);
    assert_eq!(runs.swap(0, Relaxed), 3);

    // It would pass in the second wait.
    let start = Instant::now();
    let result = Deadline::after(WAIT + WAIT / 2).scope(db.transaction_with(options, work)).await;
    assert_eq!(code(result), "40001");
    assert!((WAIT..WAIT + WAIT / 2).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert_eq!(runs.swap(0, Relaxed), 2);

    // Moved under an earlier one while it waits.
    let start = Instant::now();
    let mut moved = Box::pin(db.transaction_with(options, work));
    let first = tokio::time::timeout(WAIT / 2, &mut moved).await;
    assert!(first.is_err() && figure(&db, "connections_idle") == 1.0);
    assert_eq!(code(Deadline::after(WAIT / 4).scope(moved).await), "40001");
    assert!(start.elapsed() < WAIT, "{:?}", start.elapsed());
    assert_eq!(runs.load(Relaxed), 1);
}
