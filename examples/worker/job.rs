//! What is in the queue, what a worker takes out of it, and how an attempt ends.

use std::{fmt, time::Duration};

use buttress_core::{Classify, Outcome, Rejectable, Rejected};
use buttress_postgres::{Error, Query, SqlStateClassifier, Transaction};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::sleep;

use crate::queue::Queue;

/// Between two questions to a breaker that does not say when to come back.
const LEAST_WAIT: Duration = Duration::from_millis(50);

/// A job that is to be enqueued.
#[derive(Debug, Clone)]
pub(crate) struct NewJob {
    pub(crate) kind: &'static str,
    pub(crate) payload: String,
    pub(crate) key: Option<String>,
    pub(crate) delay: Duration,
    pub(crate) attempts: i32,
}

impl NewJob {
    /// Due at once, with five attempts.
    pub(crate) fn new(kind: &'static str, payload: &Value) -> Self {
        Self { kind, payload: payload.to_string(), key: None, delay: Duration::ZERO, attempts: 5 }
    }

    /// The idempotency key: a second job with the same one is not enqueued, while the first one's row is there.
    pub(crate) fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Due only after so long.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Dead after so many attempts; at least one.
    pub(crate) fn with_attempts(mut self, attempts: i32) -> Self {
        self.attempts = attempts.max(1);
        self
    }
}

/// A job that a worker holds a lease of.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) id: i64,
    pub(crate) kind: String,
    /// JSON.
    pub(crate) payload: String,
    /// The caller's, else made of the id and of when it was enqueued, so that neither a caller nor another queue hits upon it: the
    /// same in every attempt.
    pub(crate) key: String,
    /// Which attempt this is, from 1.
    pub(crate) attempt: i32,
    /// Grows whenever the job changes hands, so that who held it before can be told from who holds it now.
    pub(crate) lease: i64,
}

/// One attempt at a job: what the job's code is given.
pub(crate) struct Attempt {
    pub(crate) queue: Queue,
    pub(crate) job: Job,
}

/// Proof that the job's end is committed. Only [`Attempt::finish`] makes one.
pub(crate) struct Finished {
    _private: (),
}

impl Attempt {
    /// The payload as a type of the job's own.
    ///
    /// # Errors
    /// [`Failure::Hopeless`] if it is not one: another attempt would read the same.
    pub(crate) fn payload<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        // The error's own text quotes the payload, and `last_error` is no place for that.
        serde_json::from_str(&self.job.payload).map_err(|error| {
            let kind = &self.job.kind;
            Failure::Hopeless(format!("its payload is none of a {kind:?}, from column {} on", error.column()))
        })
    }

    /// Carries out the job's effect and marks the job as done, in ONE transaction: both are there, or neither. What was
    /// slow comes before, so that the transaction is short.
    ///
    /// The job is marked first. That locks its row, so that nobody takes the job over meanwhile, and changes no row at
    /// all if somebody has: the lease is another one then. A session that falls silent in the transaction (a worker that
    /// froze) is ended by the server after a lease's time, so that its lock cannot keep the job from all others. So the
    /// effect must not be silent for so long: it is no place for slow work.
    ///
    /// While the breaker refuses, it waits: the slow work is done, and it would be a pity to throw that away. The job's time
    /// limit ends the wait. Dropped before `COMMIT` was sent, nothing has happened.
    ///
    /// # Errors
    /// [`Failure::Fenced`] if somebody else holds the job by now, the effect's own, and the database's. Nothing was
    /// carried out then, but with [`Error::CommitUncertain`], where the job's row tells.
    pub(crate) async fn finish<F>(self, effect: F) -> Result<Finished, Failure>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<(), Failure>,
    {
        let Self { queue, job } = self;
        let mark = Query::new(
            "update worker_jobs set state = 'done', finished_at = now(), leased_until = null, last_error = null
             where id = :id and lease = :lease and state = 'running'
             returning set_config('idle_in_transaction_session_timeout', :silent, true)",
        )
        .bind("id", job.id)
        .bind("lease", job.lease)
        // A setting of Postgres is an `int`: 24 days.
        .bind("silent", format!("{}ms", queue.lease.as_millis().min(i32::MAX.unsigned_abs().into())));
        let permit = loop {
            match queue.breaker.acquire() {
                Ok(permit) => break permit,
                Err(refused) => sleep(refused.retry_after().unwrap_or_default().max(LEAST_WAIT)).await,
            }
        };
        let work = async |tx: &Transaction<'_>| {
            if tx.query(mark).await?.is_empty() {
                return Err(Failure::Fenced);
            }
            effect(tx).await
        };
        let result = queue.database.transaction(work).await;
        // A job's own failure is none of the database's.
        permit.finish(match &result {
            Err(Failure::Database(error)) => SqlStateClassifier.classify(&Err::<(), _>(error.clone())),
            _ => Outcome::Success,
        });
        result.map(|()| Finished { _private: () })
    }
}

/// Why an attempt did not finish its job.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another attempt may do better.
    Failed(String),
    /// No attempt will: the job is dead at once.
    Hopeless(String),
    /// The lease ran out and somebody else took the job.
    Fenced,
    /// The job's code panicked.
    Panicked(String),
    /// The database's error.
    Database(Error),
    /// A layer gave it up: the job's time limit was up.
    Rejected(Rejected),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(why) | Self::Hopeless(why) => f.write_str(why),
            Self::Fenced => f.write_str("its lease ran out and somebody else took it"),
            Self::Panicked(why) => write!(f, "it panicked: {why}"),
            Self::Database(error) => error.fmt(f),
            Self::Rejected(rejected) => rejected.fmt(f),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Database(error)
    }
}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Failure {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Database(error) => error.rejected(),
            Self::Rejected(rejected) => Some(rejected),
            _ => None,
        }
    }
}
