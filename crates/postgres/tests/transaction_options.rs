//! What a transaction begins with, and whose closures can be spawned.

mod support;

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress_postgres::{Error, Isolation, Query, Transaction, TransactionOptions};
use buttress_testkit::TestDatabase;
use support::{figure, postgres};
use tokio::sync::Barrier;

const SERIALIZABLE: TransactionOptions = TransactionOptions::new().with_isolation(Isolation::Serializable);

#[tokio::test]
async fn the_options_reach_the_server() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 1);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let options = TransactionOptions::new();
    for (options, expected) in [
        (options, "read committed off off"),
        (options.with_isolation(Isolation::ReadCommitted), "read committed off off"),
        (options.with_isolation(Isolation::RepeatableRead).read_only(), "repeatable read on off"),
        (SERIALIZABLE, "serializable off off"),
        (options.deferrable(), "serializable on on"),
    ] {
        let shown: Result<String, Error> = db
            .transaction_with(options, async |tx| {
                let settings = "select concat_ws(' ', current_setting('transaction_isolation'),
                    current_setting('transaction_read_only'), current_setting('transaction_deferrable'))";
                tx.query(Query::new(settings)).await?.one()?.get(0)
            })
            .await;
        assert_eq!(shown.unwrap(), expected, "{options:?}");
    }

    let insert = async |tx: &Transaction<'_>| tx.query(Query::new("insert into t values (1)")).await;
    let error = db.transaction_with(options.read_only(), insert).await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().code(), "25006");
    assert!(error.to_string().contains("cannot execute INSERT in a read-only transaction"), "{error}");
    assert!(db.query(Query::new("select * from t")).await.unwrap().is_empty());

    // It ends with the transaction.
    db.query(Query::new("insert into t values (1)")).await.unwrap();
    assert_eq!(figure(&db, "discarded"), 0.0);
}

#[tokio::test]
async fn a_deferrable_one_waits_for_writers_and_does_not_fail() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    db.query(Query::new("create table t (id int)")).await.unwrap();
    let (written, seen) = (Barrier::new(2), AtomicU32::new(0));
    let writer = db.transaction_with(SERIALIZABLE, async |tx| {
        tx.query(Query::new("insert into t select count(*) from t")).await?;
        written.wait().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(seen.load(Relaxed), 0, "the report did not wait");
        Ok::<_, Error>(())
    });
    let report = async {
        written.wait().await;
        db.transaction_with(TransactionOptions::new().deferrable(), async |tx| {
            let count: i64 = tx.query(Query::new("select count(*) from t")).await?.one()?.get(0)?;
            seen.fetch_add(1, Relaxed);
            Ok::<_, Error>(count)
        })
        .await
    };
    let (written, reported) = tokio::join!(writer, report);
    written.unwrap();
    assert!(matches!(reported, Ok(0 | 1)), "{reported:?}");
}

#[tokio::test]
async fn ordinary_closures_can_be_spawned() {
    let test = TestDatabase::new().await;
    let db = postgres(&test.url(), 2);
    let (moved, texts) = (String::from("moved"), vec!["select 1", "select 2"]);
    let spawned = tokio::spawn(async move {
        let borrowed = String::from("borrowed");
        let by_reference = db
            .transaction_with(SERIALIZABLE, async |tx| {
                let mut sum = borrowed.len();
                for text in &texts {
                    let one: i32 = tx.query(Query::new(*text)).await?.one()?.get(0)?;
                    let more = tx.transaction(async |tx| {
                        sum += 1;
                        tx.query(Query::new("select :t::text").bind("t", borrowed.clone())).await
                    });
                    more.await?;
                    sum += usize::try_from(one).unwrap();
                }
                Ok::<_, Error>(sum)
            })
            .await?;
        let by_move = db
            .transaction_with(SERIALIZABLE, async move |tx| {
                tx.query(Query::new("select :t::text").bind("t", moved.clone()))
                    .await?
                    .one()?
                    .get::<String>(0)
            })
            .await?;
        Ok::<_, Error>((by_reference, by_move))
    });
    assert_eq!(spawned.await.unwrap().unwrap(), (13, "moved".to_owned()));
}
