use tokio::time::timeout;

use crate::{
    Error, Transaction,
    progress::{Health, Level},
};

impl Transaction<'_> {
    /// Runs a closure in a transaction inside of this one (a savepoint): keeps what it did on `Ok`, undoes it on `Err`,
    /// and this one goes on, also where a statement in it has failed.
    ///
    /// ```no_run
    /// # use buttress_postgres::{Error, Postgres, Query};
    /// # async fn f(db: Postgres) -> Result<(), Error> {
    /// db.transaction(async |tx| {
    ///     tx.query(Query::new("insert into orders default values")).await?;
    ///     let greeted = tx.transaction(async |tx| tx.query(Query::new("insert into greetings values (1)")).await).await;
    ///     if greeted.is_err() {
    ///         tx.query(Query::new("insert into complaints default values")).await?; // the order is still there
    ///     }
    ///     Ok::<_, Error>(())
    /// })
    /// .await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A serialization failure or a deadlock in it fails the whole: the server refuses what follows. It takes two round
    /// trips, beside its statements'.
    ///
    /// While it is open, use the closure's own `tx`. A statement of the outer one, or a second transaction inside of it,
    /// is refused before it is sent; so is this one while a statement of the outer one is unfinished.
    ///
    /// They nest as deep as you like. An `async fn` that calls itself for that must box its own future, as any.
    ///
    /// # Errors
    /// The closure's own; [`Error::RolledBack`] if the closure swallowed a statement's failure, of this transaction alone;
    /// [`Error::Query`] if it was refused; else see [`Error`].
    ///
    /// # Cancellation
    /// Dropped unfinished, by a timeout or a panic that you catch, the outer one is lost as well: whatever is still asked of
    /// it is refused, and the whole is rolled back when its closure ends.
    pub async fn transaction<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Transaction<'_>) -> Result<T, E>,
        E: From<Error>,
    {
        let level = self.open().await?;
        let inner = Transaction { depth: self.depth + 1, ..*self };
        match work(&inner).await {
            Ok(value) => {
                inner.keep(level).await?;
                Ok(value)
            }
            Err(error) => {
                inner.undo(level).await;
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Level<'_>, Error> {
        let instance = self.shared.origin;
        let level = self.progress.descend(self.depth).map_err(|cause| Error::Query { instance, cause })?;
        let sql = format!("SAVEPOINT buttress_{}", self.depth + 1);
        if let Err(cause) = self.lease.connection().client.batch_execute(&sql).await {
            let error = Error::of_statement(instance, cause, false);
            self.progress.note(&error);
            level.close();
            return Err(error);
        }
        Ok(level)
    }

    async fn keep(&self, level: Level<'_>) -> Result<(), Error> {
        let instance = self.shared.origin;
        if self.progress.at_the_end_of(self.depth) != Health::Sound {
            self.undo(level).await;
            return Err(Error::RolledBack { instance });
        }
        let sql = format!("RELEASE SAVEPOINT buttress_{}", self.depth);
        if let Err(cause) = self.lease.connection().client.batch_execute(&sql).await {
            let error = Error::of_statement(instance, cause, true);
            self.progress.note(&error);
            self.undo(level).await;
            return Err(error);
        }
        level.close();
        Ok(())
    }

    async fn undo(&self, level: Level<'_>) {
        if self.progress.at_the_end_of(self.depth) >= Health::Abandoned {
            return drop(level);
        }
        if self.progress.has_conflict() {
            return level.close();
        }
        let sql = format!("ROLLBACK TO SAVEPOINT buttress_{0}; RELEASE SAVEPOINT buttress_{0}", self.depth);
        let rollback = self.lease.connection().client.batch_execute(&sql);
        match timeout(self.shared.recycle_timeout, rollback).await {
            Ok(Ok(())) => level.cure(),
            _ => drop(level),
        }
    }
}
