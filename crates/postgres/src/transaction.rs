use std::{fmt, sync::atomic::Ordering::Relaxed};

use buttress_core::{Deadline, Origin, Reason};
use tokio::{
    task::yield_now,
    time::{Instant, timeout},
};
use tokio_postgres::error::SqlState;

use crate::{
    Error, Postgres, Query, Rows,
    connection::{Call, Connection},
    error::is_fatal,
    lease::Lease,
    on_connection::Work,
    postgres::Shared,
    progress::{Health, Progress},
    sent::Sent,
    within::{earlier, within},
};

/// A transaction that is open: what the closure of [`Postgres::transaction`] gets, and that of
/// [`transaction`](Self::transaction) inside of it.
pub struct Transaction<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) lease: &'a Lease<'a>,
    pub(crate) progress: &'a Progress,
    /// In how many savepoints it is.
    pub(crate) depth: u32,
}

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
    /// The level of isolation is the server's default, and the closure is run once:
    /// [`transaction_with`](Self::transaction_with) does otherwise. The ambient [`Deadline`] holds for the whole of it,
    /// but for the `ROLLBACK` after the closure's own `Err`, which has the recycle timeout.
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
        shared.attempt("BEGIN", deadline, work).await.0
    }
}

impl Shared {
    /// Runs the closure in a transaction, once, and says whether the server wants it again.
    pub(crate) async fn attempt<T, E, F>(
        &self,
        begin: &str,
        deadline: Option<Deadline>,
        work: F,
    ) -> (Result<T, E>, bool)
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
        E: From<Error>,
    {
        let lease = match self.begin(begin, deadline).await {
            Ok(lease) => lease,
            Err(error) => return (Err(error.into()), false),
        };
        let progress = Progress::default();
        let transaction = Transaction { shared: self, lease: &lease, progress: &progress, depth: 0 };
        let result = match within(deadline, work(&transaction)).await {
            Ok(Ok(value)) => transaction.commit(deadline).await.map(|()| value).map_err(E::from),
            // The deadline has no part in this: it would cost the caller his own error, and has a limit of its own.
            Ok(Err(error)) => {
                transaction.roll_back().await;
                Err(error)
            }
            Err(_) => Err(E::from(transaction.too_late())),
        };
        match progress.health() {
            // What runs is cancelled.
            Health::Late => drop(lease),
            health => lease.settle(health < Health::Abandoned),
        }
        (result, progress.has_conflict())
    }

    pub(crate) async fn begin(&self, sql: &str, deadline: Option<Deadline>) -> Result<Lease<'_>, Error> {
        let begin = Begin { sql, instance: self.origin };
        self.begin_on_connection(deadline, &begin).await.map(|((), lease)| lease)
    }
}

struct Begin<'a> {
    sql: &'a str,
    instance: Origin,
}

impl Work for Begin<'_> {
    type Output = ();

    /// Nothing is in the transaction yet, so nothing is sent as far as the caller is concerned.
    async fn on(&self, connection: &Connection, _: &Sent) -> Result<(), Error> {
        let begun = connection.client.batch_execute(self.sql).await;
        begun.map_err(|cause| Error::of_statement(self.instance, cause, false))
    }
}

impl Transaction<'_> {
    /// Runs one statement in the transaction.
    ///
    /// # Errors
    /// See [`Error`]. After a failure the server refuses every further statement of the transaction: return the error, or
    /// run what may fail in a [`transaction`](Self::transaction) inside. While such a one is open, the outer one's are
    /// refused before they are sent ([`QueryError::InnerTransaction`](crate::QueryError::InnerTransaction)).
    ///
    /// # Cancellation
    /// Dropped unfinished, the whole transaction is rolled back when the closure ends.
    pub async fn query(&self, query: Query) -> Result<Rows, Error> {
        let origin = self.shared.origin;
        let wrong = |cause| Error::Query { instance: origin, cause };
        let parsed = self.shared.texts.parse(query.text()).map_err(wrong)?;
        let params = query.resolve(&parsed).map_err(wrong)?;
        let unfinished = self.progress.start(self.depth).map_err(wrong)?;
        self.shared.counters.queries.fetch_add(1, Relaxed);
        let call = Call::new(origin, &parsed, &params).in_transaction();
        let result = self.lease.connection().run(&call, &self.progress.sent).await;
        unfinished.finish();
        if let Err(error) = &result {
            self.progress.note(error);
            if error.sqlstate() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) && self.progress.is_running() {
                // Why is in an answer that came before, to one that runs beside it. That one has its turn first, lest
                // `try_join!` drop it unread.
                yield_now().await;
            }
        }
        result
    }

    /// The deadline passed before `COMMIT` was sent.
    fn too_late(&self) -> Error {
        let given_up = self.progress.health() >= Health::Abandoned;
        self.progress.worsen(Health::Late);
        let sent = self.progress.sent.any();
        if given_up || sent {
            self.shared.no_answer(sent)
        } else {
            // The closure took its time, and the server was not even asked.
            self.shared.origin.reject(Reason::DeadlineExceeded).into()
        }
    }

    async fn commit(&self, deadline: Option<Deadline>) -> Result<(), Error> {
        let instance = self.shared.origin;
        if self.progress.at_the_end_of(self.depth) != Health::Sound {
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
                self.progress.worsen(Health::Late);
                return Err(Error::CommitUncertain { instance, cause: None });
            }
        };
        match cause.as_db_error() {
            Some(error) if !is_fatal(error) && !leaves_open(error.code()) => {
                let error = Error::Database { instance, cause: cause.into(), sent: true };
                self.progress.note(&error);
                Err(error)
            }
            _ => {
                self.progress.worsen(Health::Lost);
                Err(Error::CommitUncertain { instance, cause: Some(cause.into()) })
            }
        }
    }

    /// If it does not succeed soon, the connection is discarded, which rolls back as well.
    async fn roll_back(&self) {
        if self.progress.at_the_end_of(self.depth) >= Health::Abandoned {
            return;
        }
        let rollback = self.lease.connection().client.batch_execute("ROLLBACK");
        if !matches!(timeout(self.shared.recycle_timeout, rollback).await, Ok(Ok(()))) {
            self.progress.worsen(Health::Lost);
        }
    }
}

/// SQLSTATEs by which the server itself says that it does not know.
fn leaves_open(state: &SqlState) -> bool {
    *state == SqlState::TRANSACTION_RESOLUTION_UNKNOWN || *state == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("name", &self.shared.origin.name()).finish_non_exhaustive()
    }
}
