//! Transactions inside of transactions.

mod support;

use std::{future::Future, panic::AssertUnwindSafe, pin::Pin, sync::Arc, time::Duration};

use buttress_postgres::{Error, Postgres, Query, QueryError, Transaction};
use buttress_testkit::TestDatabase;
use futures_util::FutureExt;
use proptest::{prelude::*, test_runner::TestRunner};
use support::{IN_TRANSACTION, SLEEPING, backend, figure, postgres, spy, until_backends};
use tokio::time::timeout;

fn insert(id: i32) -> Query {
    Query::new("insert into t values (:id)").bind("id", id)
}

fn failing() -> Query {
    Query::new("select 1 / 0")
}

async fn table() -> (TestDatabase, Postgres) {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int primary key)")).await.unwrap();
    (test, db)
}

async fn ids(db: &Postgres) -> Vec<i32> {
    let rows = db.query(Query::new("select id from t order by id")).await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

#[track_caller]
fn refused<T>(result: Result<T, Error>) -> QueryError {
    match result {
        Err(Error::Query { cause, .. }) => cause,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was not refused"),
    }
}

#[tokio::test]
async fn a_failure_inside_is_undone_alone() {
    let (_test, db) = table().await;
    db.transaction(async |tx| {
        tx.query(insert(1)).await?;
        let kept = tx.transaction(async |tx| tx.query(insert(2)).await).await?;
        assert_eq!(kept.affected(), 1);

        let failed = tx
            .transaction(async |tx| {
                tx.query(insert(3)).await?;
                tx.query(insert(1)).await
            })
            .await;
        assert_eq!(failed.unwrap_err().sqlstate().unwrap().code(), "23505");

        let swallowed = tx
            .transaction(async |tx| {
                tx.query(insert(4)).await?;
                assert!(tx.query(failing()).await.is_err());
                Ok::<_, Error>(())
            })
            .await;
        assert!(matches!(swallowed, Err(Error::RolledBack { .. })), "{swallowed:?}");

        tx.query(insert(5)).await
    })
    .await
    .unwrap();
    assert_eq!(ids(&db).await, [1, 2, 5]);
    assert_eq!((figure(&db, "transactions"), figure(&db, "discarded")), (1.0, 0.0));
}

#[tokio::test]
async fn a_failure_outside_is_not_cured_by_what_follows_inside() {
    let (_test, db) = table().await;
    let result = db
        .transaction(async |tx| {
            tx.query(insert(1)).await?;
            assert!(tx.query(failing()).await.is_err());
            let inner = tx.transaction(async |_| -> Result<(), Error> { panic!("it never begins") }).await;
            assert_eq!(inner.unwrap_err().sqlstate().unwrap().code(), "25P02");
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");
    assert!(ids(&db).await.is_empty());
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn only_the_innermost_is_used_and_one_at_a_time() {
    let (_test, db) = table().await;
    db.transaction(async |outer| {
        outer
            .transaction(async |inner| {
                assert_eq!(refused(outer.query(insert(1)).await), QueryError::InnerTransaction);
                let second = outer.transaction(async |tx| tx.query(insert(2)).await);
                assert_eq!(refused(second.await), QueryError::InnerTransaction);
                inner.query(insert(3)).await
            })
            .await?;

        // Two at once: the first one gets it.
        let (first, second) = tokio::join!(
            outer.transaction(async |tx| tx.query(insert(4)).await),
            outer.transaction(async |tx| tx.query(insert(5)).await),
        );
        first?;
        assert_eq!(refused(second), QueryError::InnerTransaction);

        // A statement that is unfinished might be carried out inside.
        let (statement, inner) = tokio::join!(
            outer.query(insert(6)),
            outer.transaction(async |tx| {
                tx.query(insert(7)).await?;
                Err::<(), _>(tx.query(failing()).await.unwrap_err())
            }),
        );
        statement?;
        assert_eq!(refused(inner), QueryError::StatementRunning);

        let (inner, statement) =
            tokio::join!(outer.transaction(async |tx| tx.query(insert(8)).await), outer.query(insert(9)));
        inner?;
        assert_eq!(refused(statement), QueryError::InnerTransaction);
        // Statements of one level may run at once, as ever.
        let (one, other) = tokio::join!(outer.query(insert(10)), outer.query(insert(11)));
        one.and(other)
    })
    .await
    .unwrap();
    assert_eq!(ids(&db).await, [3, 4, 6, 8, 10, 11]);
}

#[tokio::test]
async fn a_statement_given_up_inside_loses_the_whole() {
    let (test, db) = table().await;
    let spy = spy(test.config()).await;
    let before = backend(&db).await;
    let result = db
        .transaction(async |tx| {
            tx.query(insert(1)).await?;
            let inner = tx
                .transaction(async |tx| {
                    let given_up =
                        timeout(Duration::from_millis(50), tx.query(Query::new("select pg_sleep(30)")));
                    assert!(given_up.await.is_err());
                    Ok::<_, Error>(())
                })
                .await;
            assert!(matches!(inner, Err(Error::RolledBack { .. })), "{inner:?}");
            assert_eq!(refused(tx.query(insert(2)).await), QueryError::InnerTransaction);
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");
    assert_ne!(backend(&db).await, before);
    until_backends(&spy, SLEEPING, 0).await;
    assert!(ids(&db).await.is_empty());
}

#[tokio::test]
async fn a_panic_caught_outside_loses_the_whole() {
    let (test, db) = table().await;
    let spy = spy(test.config()).await;
    let result = db
        .transaction(async |tx| {
            tx.query(insert(1)).await?;
            let inner = tx.transaction(async |tx| {
                tx.query(insert(2)).await?;
                assert!(std::hint::black_box(false), "on purpose");
                Ok::<_, Error>(())
            });
            assert!(AssertUnwindSafe(inner).catch_unwind().await.is_err());
            assert_eq!(refused(tx.query(insert(3)).await), QueryError::InnerTransaction);
            Ok::<_, Error>(())
        })
        .await;
    assert!(matches!(result, Err(Error::RolledBack { .. })), "{result:?}");
    until_backends(&spy, IN_TRANSACTION, 0).await;
    assert!(ids(&db).await.is_empty());
}

/// Polls a future so often, and drops it then.
async fn drop_after<F: Future>(polls: usize, future: F) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(|cx| {
        if left == 0 {
            return std::task::Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            // Where it was the last time, nobody need wake it.
            std::task::Poll::Pending if left == 0 => std::task::Poll::Ready(None),
            std::task::Poll::Pending => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn one_dropped_at_any_await_is_never_half_kept() {
    let (test, db) = table().await;
    let spy = spy(test.config()).await;
    for fails in [false, true] {
        for polls in 0.. {
            let mut finished = false;
            let result = db
                .transaction(async |tx| {
                    tx.query(insert(1)).await?;
                    let inner = tx.transaction(async |tx| {
                        tx.query(insert(2)).await?;
                        let deeper = tx.transaction(async |tx| tx.query(insert(3)).await);
                        deeper.await?;
                        if fails { tx.query(failing()).await } else { tx.query(insert(4)).await }
                    });
                    let inner = drop_after(polls, inner).await;
                    finished = inner.is_some_and(|inner| inner.is_err() == fails);
                    if polls > 0 && !finished {
                        assert_eq!(refused(tx.query(insert(5)).await), QueryError::InnerTransaction);
                        return Ok::<_, Error>(());
                    }
                    tx.query(insert(6)).await.map(drop)
                })
                .await;
            let left = ids(&db).await;
            match (polls, finished) {
                (0, _) => assert_eq!(left, [1, 6], "it never began"),
                (_, false) => {
                    assert!(matches!(result, Err(Error::RolledBack { .. })), "{polls}: {result:?}");
                    assert!(left.is_empty(), "{polls}: {left:?}");
                }
                (_, true) if fails => assert_eq!(left, [1, 6]),
                (_, true) => assert_eq!(left, [1, 2, 3, 4, 6]),
            }
            until_backends(&spy, "true", 1).await;
            if finished {
                // SAVEPOINT, a statement, SAVEPOINT, a statement, RELEASE, a statement, RELEASE; each waits once at least.
                assert!(polls >= 7, "{polls}");
                break;
            }
            db.query(Query::new("truncate t")).await.unwrap();
        }
        db.query(Query::new("truncate t")).await.unwrap();
    }
}

/// What happens in a transaction, and whether its closure returns `Ok`.
#[derive(Debug, Clone)]
struct Tree {
    steps: Vec<Step>,
    ok: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Insert,
    /// The server refuses it before it runs.
    Unknown,
    /// The server fails at it while it runs.
    Fail,
    /// It is not sent.
    Wrong,
    Nest(Tree),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = || prop_oneof![6 => Just(Step::Insert), 1 => Just(Step::Unknown), 1 => Just(Step::Fail), 1 => Just(Step::Wrong)];
    let tree = |step: BoxedStrategy<Step>| {
        (prop::collection::vec(step, 0..5), prop::bool::weighted(0.7))
            .prop_map(|(steps, ok)| Tree { steps, ok })
    };
    let steps = leaf().prop_recursive(
        4,
        24,
        4,
        move |inner| prop_oneof![1 => leaf(), 2 => tree(inner.boxed()).prop_map(Step::Nest)],
    );
    tree(steps.boxed())
}

/// What should come of a tree: the rows that it keeps, if it is kept. Ids are given in order, to all that is tried.
fn model(tree: &Tree, next: &mut i32) -> Option<Vec<i32>> {
    let (mut kept, mut failed) = (Vec::new(), false);
    for step in &tree.steps {
        match step {
            Step::Insert => {
                if !failed {
                    kept.push(*next);
                }
                *next += 1;
            }
            Step::Wrong => {}
            Step::Unknown | Step::Fail => failed = true,
            Step::Nest(_) if failed => {}
            Step::Nest(tree) => kept.extend(model(tree, next).unwrap_or_default()),
        }
    }
    (tree.ok && !failed).then_some(kept)
}

#[derive(Debug)]
enum Ended {
    OnPurpose,
    By(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::By(error)
    }
}

type Boxed<'a> = Pin<Box<dyn Future<Output = Result<(), Ended>> + Send + 'a>>;

fn carry_out<'a>(tx: &'a Transaction<'_>, tree: &'a Tree, next: &'a mut i32) -> Boxed<'a> {
    Box::pin(async move {
        let mut failed = false;
        for step in &tree.steps {
            match step {
                Step::Insert => {
                    assert_eq!(tx.query(insert(*next)).await.is_err(), failed);
                    *next += 1;
                }
                Step::Wrong => assert_eq!(
                    refused(tx.query(insert(0).bind("id", 0)).await),
                    QueryError::Twice("id".into())
                ),
                Step::Unknown | Step::Fail => {
                    let sql = if matches!(step, Step::Fail) { "select 1 / 0" } else { "select nothing" };
                    assert!(tx.query(Query::new(sql)).await.is_err());
                    failed = true;
                }
                Step::Nest(inner) => {
                    let result = tx.transaction(async |tx| carry_out(tx, inner, next).await).await;
                    match result {
                        Err(Ended::By(Error::Database { .. })) => assert!(failed, "it could not begin"),
                        Err(Ended::By(Error::RolledBack { .. })) => assert!(inner.ok),
                        Err(Ended::OnPurpose) => assert!(!inner.ok),
                        Err(Ended::By(other)) => panic!("{other}"),
                        Ok(()) => assert!(inner.ok),
                    }
                }
            }
        }
        if tree.ok { Ok(()) } else { Err(Ended::OnPurpose) }
    })
}

#[test]
fn trees_of_transactions_leave_what_a_naive_model_leaves() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (test, db) = runtime.block_on(table());
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    let kept_any = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    TestRunner::new(config)
        .run(&trees(), |tree| {
            let expected = model(&tree, &mut 0);
            let (result, left) = runtime.block_on(async {
                db.query(Query::new("truncate t")).await.unwrap();
                let mut next = 0;
                let result = db.transaction(async |tx| carry_out(tx, &tree, &mut next).await).await;
                (result, ids(&db).await)
            });
            prop_assert_eq!(result.is_ok(), expected.is_some(), "{:?}", result);
            let nested = tree.steps.iter().any(|step| matches!(step, Step::Nest(_)));
            if nested && expected.as_ref().is_some_and(|kept| !kept.is_empty()) {
                kept_any.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            prop_assert_eq!(left, expected.unwrap_or_default());
            Ok(())
        })
        .unwrap();
    let kept_any = kept_any.load(std::sync::atomic::Ordering::Relaxed);
    assert!(kept_any > 10, "the trees are too poor: {kept_any}");
    assert_eq!(figure(&db, "discarded"), 0.0);
    drop((runtime, test));
}
