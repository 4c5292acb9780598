use std::sync::atomic::Ordering::Relaxed;

use tokio::time::sleep;

use crate::{
    Error, Postgres, Transaction, TransactionOptions,
    within::{earlier, within},
};

impl Postgres {
    /// Runs a closure in a transaction as [`transaction`](Self::transaction) does, with these options, and again if the
    /// server says that it and another stood in each other's way.
    ///
    /// ```no_run
    /// # use buttress_postgres::{Error, Isolation, Postgres, Query, TransactionOptions};
    /// # async fn f(db: Postgres) -> Result<(), Error> {
    /// let serializable = TransactionOptions::new().with_isolation(Isolation::Serializable);
    /// db.transaction_with(serializable, async |tx| {
    ///     let on_call: i64 =
    ///         tx.query(Query::new("select count(*) from doctors where on_call")).await?.one()?.get(0)?;
    ///     if on_call > 1 {
    ///         tx.query(Query::new("update doctors set on_call = false where name = :name").bind("name", "Ada")).await?;
    ///     }
    ///     Ok::<_, Error>(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The closure is run again after a serialization failure (40001) or a deadlock (40P01) of one of its statements or of
    /// `COMMIT`, whatever it made of that error. So what it does beside the transaction it may do several times. Nothing
    /// else is repeated: neither its own errors, nor what was lost with its connection, nor a `COMMIT` without an answer.
    ///
    /// Each run takes a clone of the closure: what it captures by reference they share, and of what it captures by `move`
    /// each has its own.
    ///
    /// Between two runs it holds no connection. The ambient [`Deadline`](buttress_core::Deadline) holds for all of them:
    /// where it would pass during the wait, the last run's error is returned at once.
    ///
    /// # Errors
    /// Those of the last run, as for [`transaction`](Self::transaction).
    ///
    /// # Cancellation
    /// As for [`transaction`](Self::transaction). Dropped while it waits for the next run, nothing is left behind.
    // Not `AsyncFn`: the future of one that borrows could not be spawned (rust-lang/rust#138207).
    pub async fn transaction_with<T, E, F>(&self, options: TransactionOptions, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E> + Clone,
        E: From<Error>,
    {
        let shared = self.shared();
        let deadline = shared.deadline()?;
        shared.counters.transactions.fetch_add(1, Relaxed);
        let begin = options.begin();
        let mut delays =
            options.backoff().delays().take(usize::try_from(options.retries).unwrap_or(usize::MAX));
        loop {
            let (result, conflict) = shared.attempt(&begin, deadline, work.clone()).await;
            if !conflict {
                return result;
            }
            let Some(delay) = delays.next() else {
                shared.note("gave_up", || {
                    format!("all of {} runs met a conflict", options.retries.saturating_add(1))
                });
                return result;
            };
            if earlier(deadline).is_some_and(|deadline| deadline.remaining() <= delay) {
                shared.note("gave_up", || {
                    format!("a wait of {delay:.1?} would not end before the caller's deadline")
                });
                return result;
            }
            shared.note("retried", || format!("in {delay:.1?}, after a conflict with another transaction"));
            // It may be moved under an earlier deadline meanwhile.
            if within(deadline, sleep(delay)).await.is_err() {
                return result;
            }
            shared.counters.transactions_retried.fetch_add(1, Relaxed);
        }
    }
}
