//! The jobs of this example. A program of your own has others; the rest stays as it is.

use std::time::Duration;

use buttress_postgres::{Error, Postgres, Query, Transaction};
use serde::Deserialize;
use serde_json::json;
use tokio::time::sleep;

use crate::{
    job::{Attempt, Failure, Finished, NewJob},
    queue::Queue,
};

/// What [`perform`] knows.
pub(crate) const KINDS: &[&str] = &["book", "order", "flaky", "poison", "panic"];

/// Without a unique key on purpose: a job that was done twice would show.
const LEDGER: &str = "create table if not exists worker_ledger (
    job bigint not null, key text not null, attempt int not null, note text not null, at timestamptz not null default now()
)";

/// Makes the table of the jobs' effects.
///
/// # Errors
/// The database's.
pub(crate) async fn create(database: &Postgres) -> Result<(), Error> {
    database
        .transaction(async |tx| {
            tx.query(Query::new("select pg_advisory_xact_lock(hashtext('worker_ledger'))")).await?;
            tx.query(Query::new(LEDGER)).await.map(|_| ())
        })
        .await
}

/// What a `book` does.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Book {
    note: String,
    /// How long it works before its transaction.
    work_ms: u64,
    /// How long it dawdles within it.
    hold_ms: u64,
}

impl Default for Book {
    fn default() -> Self {
        Self { note: "booked".into(), work_ms: 0, hold_ms: 0 }
    }
}

/// Does one job.
///
/// # Errors
/// Why it could not.
///
/// # Panics
/// For a `panic`, which is what it is there for.
pub(crate) async fn perform(attempt: Attempt) -> Result<Finished, Failure> {
    match attempt.job.kind.as_str() {
        "book" => book(attempt).await,
        "order" => order(attempt).await,
        "flaky" => flaky(attempt).await,
        "poison" => Err(Failure::Failed("nobody can do this one".into())),
        "panic" => panic!("this job panics"),
        other => Err(Failure::Hopeless(format!("nobody here knows the kind {other:?}"))),
    }
}

/// Slow work first, without a transaction; then the effect, with the end of the job. An effect outside of the database would
/// stand where the slow work is, and hand on `attempt.job.key`, so that its receiver can tell a second attempt from a
/// second job: out there, once is what the receiver makes of at least once.
async fn book(attempt: Attempt) -> Result<Finished, Failure> {
    let book: Book = attempt.payload()?;
    sleep(Duration::from_millis(book.work_ms)).await;
    let entry = entry(&attempt, book.note);
    attempt
        .finish(async |tx| {
            tx.query(entry).await?;
            sleep(Duration::from_millis(book.hold_ms)).await;
            Ok(())
        })
        .await
}

/// Makes another job in its own transaction: that one is there if and only if this one is done.
async fn order(attempt: Attempt) -> Result<Finished, Failure> {
    let (entry, key) = (entry(&attempt, "ordered".into()), format!("{}-receipt", attempt.job.key));
    let receipt = NewJob::new("book", &json!({ "note": "receipt sent" })).with_key(key);
    attempt
        .finish(async |tx: &Transaction<'_>| {
            tx.query(entry).await?;
            Queue::enqueue_in(tx, &[receipt]).await?;
            Ok(())
        })
        .await
}

/// Succeeds in its third attempt.
async fn flaky(attempt: Attempt) -> Result<Finished, Failure> {
    if attempt.job.attempt < 3 {
        return Err(Failure::Failed("the weather was bad".into()));
    }
    let entry = entry(&attempt, "third time lucky".into());
    attempt.finish(async |tx| tx.query(entry).await.map(|_| ()).map_err(Failure::from)).await
}

fn entry(attempt: &Attempt, note: String) -> Query {
    Query::new("insert into worker_ledger (job, key, attempt, note) values (:job, :key, :attempt, :note)")
        .bind("job", attempt.job.id)
        .bind("key", attempt.job.key.clone())
        .bind("attempt", attempt.job.attempt)
        .bind("note", note)
}

/// One of each, some twice.
pub(crate) fn demonstration() -> Vec<NewJob> {
    vec![
        NewJob::new("book", &json!({ "note": "at once" })).with_key("demo-1"),
        NewJob::new("book", &json!({ "note": "the same key: never done" })).with_key("demo-1"),
        NewJob::new("book", &json!({ "note": "longer than its lease", "work_ms": 3_000 })),
        NewJob::new("book", &json!({ "note": "later" })).after(Duration::from_secs(2)),
        NewJob::new("order", &json!({})).with_key("order-42"),
        NewJob::new("flaky", &json!({})),
        NewJob::new("poison", &json!({})).with_attempts(3),
        NewJob::new("panic", &json!({})).with_attempts(2),
        NewJob::new("book", &json!({ "no such": "field" })),
    ]
}
