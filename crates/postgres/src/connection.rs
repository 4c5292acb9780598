use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use buttress_core::Origin;
use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use tokio_postgres::{
    RowStream, Statement,
    error::{DbError, SqlState},
};

use crate::{Error, QueryError, Rows, named::Parsed, query::Param, recent::LONGEST, statements::Statements};

/// A connection with the statements that are prepared on it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: ClientWrapper,
    statements: Mutex<Statements<Statement>>,
}

/// A statement ready to be sent, and how far it has come.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) origin: Origin,
    pub(crate) parsed: &'a Parsed,
    pub(crate) params: &'a [Param<'a>],
    /// Set just before the server is asked to run the statement. Preparing it does not count: that changes nothing.
    pub(crate) sent: &'a AtomicBool,
    pub(crate) in_transaction: bool,
    /// Whether its rows may be kept for long. They must not keep a statement prepared, then, of which a connection has
    /// only so many.
    #[cfg(feature = "cache")]
    pub(crate) is_kept: bool,
}

impl Connection {
    pub(crate) fn new(client: ClientWrapper, statements: usize) -> Self {
        Self { client, statements: Mutex::new(Statements::new(statements)) }
    }

    /// Runs a statement. If what was prepared for it no longer holds, it is prepared anew and run once more; but not in
    /// a transaction that has failed by it.
    pub(crate) async fn run(&self, call: &Call<'_>) -> Result<Rows, Error> {
        let sql = &*call.parsed.sql;
        let mut repeated = false;
        loop {
            let (statement, kept) =
                self.prepare(sql).await.map_err(|cause| Error::of_statement(call.origin, cause, false))?;
            let sent_before = call.sent.swap(true, Relaxed);
            let (reached, error) = match self.execute(&statement, call).await {
                Ok(rows) => return Ok(rows),
                Err(stopped) => stopped,
            };
            let stale = kept && (reached == Reached::Nothing || is_stale(&error));
            if stale {
                self.statements().remove(sql);
            }
            let undone = match reached {
                Reached::Nothing => true,
                Reached::Binding => !call.in_transaction,
                Reached::Running => false,
            };
            let again = stale && undone && !repeated;
            if again || reached == Reached::Nothing {
                call.sent.store(sent_before, Relaxed);
            }
            if !again {
                return Err(error);
            }
            repeated = true;
        }
    }

    /// The prepared statement, and whether it was kept from before.
    async fn prepare(&self, sql: &str) -> Result<(Statement, bool), tokio_postgres::Error> {
        // Closed when it has run: it was made at run time, and would fill the server's memory.
        if sql.len() > LONGEST {
            return Ok((self.client.prepare(sql).await?, false));
        }
        if let Some(statement) = self.statements().get(sql) {
            return Ok((statement, true));
        }
        self.statements().make_room();
        let statement = self.client.prepare(sql).await?;
        self.statements().insert(sql, statement.clone());
        Ok((statement, false))
    }

    async fn execute(&self, statement: &Statement, call: &Call<'_>) -> Result<Rows, (Reached, Error)> {
        let (instance, names, server) = (call.origin, call.params.len(), statement.params().len());
        if server != names {
            let cause = QueryError::Mismatch { server, names };
            return Err((Reached::Nothing, Error::Query { instance, cause }));
        }
        // It is there when the server has bound the values; what it carries out is in the stream.
        let stream = self.stream(statement, call).await.map_err(|cause| {
            let error = Error::of_statement(instance, cause, true);
            let unfit = matches!(error, Error::Query { .. });
            (if unfit { Reached::Nothing } else { Reached::Binding }, error)
        })?;
        let mut stream = std::pin::pin!(stream);
        let mut rows = Vec::new();
        let running = |cause| (Reached::Running, Error::of_statement(instance, cause, true));
        while let Some(row) = stream.try_next().await.map_err(running)? {
            rows.push(row);
        }
        Ok(Rows::new(rows, stream.rows_affected().unwrap_or(0), instance))
    }

    async fn stream(
        &self,
        statement: &Statement,
        call: &Call<'_>,
    ) -> Result<RowStream, tokio_postgres::Error> {
        let params = call.params.iter().copied();
        #[cfg(feature = "cache")]
        if call.is_kept {
            let typed = params.zip(statement.params().iter().cloned());
            return self.client.query_typed_raw(&call.parsed.sql, typed).await;
        }
        self.client.query_raw(statement, params).await
    }

    fn statements(&self) -> MutexGuard<'_, Statements<Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far a statement came that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reached {
    /// It was not sent, because the values do not fit the types that its parameters had when it was prepared.
    Nothing,
    /// The server refused it, or its values, before it began to run it.
    Binding,
    /// The server had begun. Whatever it says then, some of it may have been carried out.
    Running,
}

/// Whether a kept statement may have failed only because what was prepared is gone, or no longer what it was.
fn is_stale(error: &Error) -> bool {
    error.database().is_some_and(|said| {
        // The second two are what a type that was dropped, and perhaps made anew, gives.
        [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::INTERNAL_ERROR, SqlState::UNDEFINED_OBJECT]
            .contains(said.code())
            || is_changed_plan(said)
    })
}

/// "cached plan must not change result type". The message may be translated; the routine's name is not.
pub(crate) fn is_changed_plan(said: &DbError) -> bool {
    *said.code() == SqlState::FEATURE_NOT_SUPPORTED && said.routine() == Some("RevalidateCachedQuery")
}
