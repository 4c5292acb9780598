use std::{
    fmt,
    sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
};

use buttress_core::{Deadline, Reason};
use tokio::time::{Instant, timeout};
use tokio_postgres::error::SqlState;

use crate::{
    Error, Postgres, Query, Rows,
    connection::Call,
    error::is_fatal,
    lease::Lease,
    postgres::{Shared, is_harmless_loss},
    within::{earlier, within},
};

/// A transaction that is open: what the closure of [`Postgres::transaction`] gets.
pub struct Transaction<'a> {
    shared: &'a Shared,
    lease: &'a Lease<'a>,
    health: AtomicU8,
    /// Whether a statement was sent.
    sent: AtomicBool,
}

/// Everything so far went well.
const SOUND: u8 = 0;
/// A statement failed: Postgres can only roll back.
const FAILED: u8 = 1;
/// A statement was given up while it ran, or the connection broke: nothing can be said about it any more.
const ABANDONED: u8 = 2;
/// The deadline passed.
const LATE: u8 = 3;

impl Postgres {
    /// Runs a closure in a transaction: commits it on `Ok`, rolls it back on `Err`.
    ///
    /// ```no_run
    /// # use buttress_postgres::{Error, Postgres, Query};
    /// # async fn f(db: Postgres) -> Result<(), Error> {
    /// let id: i64 = db
    ///     .transaction(async |tx| {
    ///         let row = tx.query(Query::new("insert into orders default values returning id")).await?.one()?;
    ///         tx.query(Query::new("update stock set left = left - 1")).await?;
    ///         row.get("id")
    ///     })
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The level of isolation is the server's default. The ambient [`Deadline`] holds for the whole of it, but for the
    /// `ROLLBACK` after the closure's own `Err`, which has the recycle timeout.
    ///
    /// Inside of the closure use `tx` alone, never the pool: it would run outside of the transaction, and as many such
    /// closures as the pool has connections would all wait for one that none of them gives back.
    ///
    /// # Errors
    /// The closure's own; else see [`Error`]: [`Error::RolledBack`] if the closure swallowed a statement's failure, and
    /// [`Error::CommitUncertain`] if no answer to `COMMIT` came.
    ///
    /// # Cancellation
    /// Dropped unfinished, or if the closure panics, what runs is cancelled on the server and the connection is
    /// discarded: nothing is committed, unless `COMMIT` had been sent already.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
        E: From<Error>,
    {
        let shared = self.shared();
        let deadline = shared.deadline()?;
        shared.counters.transactions.fetch_add(1, Relaxed);
        let lease = shared.begin(deadline).await?;
        let transaction =
            Transaction { shared, lease: &lease, health: AtomicU8::new(SOUND), sent: AtomicBool::new(false) };
        let result = match within(deadline, work(&transaction)).await {
            Ok(Ok(value)) => transaction.commit(deadline).await.map(|()| value).map_err(E::from),
            // The deadline has no part in this: it would cost the caller his own error, and has a limit of its own.
            Ok(Err(error)) => {
                transaction.roll_back().await;
                Err(error)
            }
            Err(_) => Err(E::from(transaction.too_late())),
        };
        match transaction.health.into_inner() {
            // What runs is cancelled.
            LATE => drop(lease),
            health => lease.settle(health < ABANDONED),
        }
        result
    }
}

impl Shared {
    async fn begin(&self, deadline: Option<Deadline>) -> Result<Lease<'_>, Error> {
        let mut repeated = false;
        loop {
            let mut lease = self.lease(deadline).await?;
            lease.occupy();
            let begun = within(deadline, lease.connection().client.batch_execute("BEGIN")).await;
            // Nothing is in the transaction yet, so nothing is sent as far as the caller is concerned.
            let error = match begun {
                Err(_) => return Err(self.no_answer(false)),
                Ok(Ok(())) => return Ok(lease),
                Ok(Err(cause)) => Error::of_statement(self.origin, cause, false),
            };
            lease.settle(!error.breaks_connection());
            if repeated || !is_harmless_loss(&error) {
                return Err(error);
            }
            repeated = true;
        }
    }
}

impl Transaction<'_> {
    /// Runs one statement in the transaction.
    ///
    /// # Errors
    /// See [`Error`]. After a failure the server refuses every further statement of the transaction: return the error.
    ///
    /// # Cancellation
    /// Dropped unfinished, the whole transaction is rolled back when the closure ends.
    pub async fn query(&self, query: Query) -> Result<Rows, Error> {
        let origin = self.shared.origin;
        let wrong = |cause| Error::Query { instance: origin, cause };
        let parsed = self.shared.texts.parse(query.text()).map_err(wrong)?;
        let params = query.resolve(&parsed).map_err(wrong)?;
        self.shared.counters.queries.fetch_add(1, Relaxed);
        let call = Call {
            origin,
            parsed: &parsed,
            params: &params,
            sent: &self.sent,
            in_transaction: true,
            #[cfg(feature = "cache")]
            is_kept: false,
        };

        let unfinished = Unfinished(&self.health);
        let result = self.lease.connection().run(&call).await;
        std::mem::forget(unfinished);
        if let Err(error) = &result {
            match error {
                Error::Query { .. } => {}
                error if error.breaks_connection() => self.worsen(ABANDONED),
                _ => self.worsen(FAILED),
            }
        }
        result
    }

    fn worsen(&self, to: u8) {
        self.health.fetch_max(to, Relaxed);
    }

    /// The deadline passed before `COMMIT` was sent.
    fn too_late(&self) -> Error {
        let given_up = self.health.load(Relaxed) == ABANDONED;
        self.worsen(LATE);
        if given_up || self.sent.load(Relaxed) {
            self.shared.no_answer(self.sent.load(Relaxed))
        } else {
            // The closure took its time, and the server was not even asked.
            self.shared.origin.reject(Reason::DeadlineExceeded).into()
        }
    }

    async fn commit(&self, deadline: Option<Deadline>) -> Result<(), Error> {
        let instance = self.shared.origin;
        if self.health.load(Relaxed) != SOUND {
            // Postgres would answer COMMIT with a silent ROLLBACK.
            self.roll_back().await;
            return Err(Error::RolledBack { instance });
        }
        // A COMMIT that is sent too late could only be uncertain.
        if earlier(deadline).is_some_and(|deadline| deadline.instant() <= Instant::now()) {
            return Err(self.too_late());
        }
        let commit = self.lease.connection().client.batch_execute("COMMIT");
        let cause = match within(deadline, commit).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(cause)) => cause,
            Err(_) => {
                self.worsen(LATE);
                return Err(Error::CommitUncertain { instance, cause: None });
            }
        };
        match cause.as_db_error() {
            Some(error) if !is_fatal(error) && !leaves_open(error.code()) => {
                Err(Error::Database { instance, cause, sent: true })
            }
            _ => {
                self.worsen(ABANDONED);
                Err(Error::CommitUncertain { instance, cause: Some(cause) })
            }
        }
    }

    /// If it does not succeed soon, the connection is discarded, which rolls back as well.
    async fn roll_back(&self) {
        if self.health.load(Relaxed) == ABANDONED {
            return;
        }
        let rollback = self.lease.connection().client.batch_execute("ROLLBACK");
        if !matches!(timeout(self.shared.recycle_timeout, rollback).await, Ok(Ok(()))) {
            self.worsen(ABANDONED);
        }
    }
}

/// SQLSTATEs by which the server itself says that it does not know.
fn leaves_open(state: &SqlState) -> bool {
    *state == SqlState::TRANSACTION_RESOLUTION_UNKNOWN || *state == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
}

struct Unfinished<'a>(&'a AtomicU8);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.0.fetch_max(ABANDONED, Relaxed);
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("name", &self.shared.origin.name()).finish_non_exhaustive()
    }
}
