use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use buttress_core::Origin;
use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use tokio_postgres::{Statement, error::SqlState};

use crate::{Error, QueryError, Rows, named::Parsed, query::Param, statements::Statements};

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
}

impl Connection {
    pub(crate) fn new(client: ClientWrapper, statements: usize) -> Self {
        Self { client, statements: Mutex::new(Statements::new(statements)) }
    }

    /// Runs a statement. If the plan that the server kept for it no longer holds, it is prepared anew and run once
    /// more; but not in a transaction, which has failed by then.
    pub(crate) async fn run(&self, call: &Call<'_>) -> Result<Rows, Error> {
        let failed = |cause, sent| Error::of_statement(call.origin, cause, sent);
        let mut repeated = false;
        loop {
            let (statement, kept) =
                self.prepare(&call.parsed.sql).await.map_err(|cause| failed(cause, false))?;
            let server = statement.params().len();
            if server != call.params.len() {
                let cause = QueryError::Mismatch { server, names: call.params.len() };
                return Err(Error::Query { instance: call.origin, cause });
            }
            call.sent.store(true, Relaxed);
            match self.execute(&statement, call).await {
                Ok(rows) => return Ok(rows),
                Err(cause) if kept && is_stale(&cause) => {
                    self.statements().remove(&call.parsed.sql);
                    if call.in_transaction || repeated {
                        return Err(failed(cause, true));
                    }
                    // The server refused to begin, so nothing was done.
                    call.sent.store(false, Relaxed);
                    repeated = true;
                }
                Err(cause) => return Err(failed(cause, true)),
            }
        }
    }

    /// The prepared statement, and whether it was kept from before.
    async fn prepare(&self, sql: &str) -> Result<(Statement, bool), tokio_postgres::Error> {
        if let Some(statement) = self.statements().get(sql) {
            return Ok((statement, true));
        }
        self.statements().make_room();
        let statement = self.client.prepare(sql).await?;
        self.statements().insert(sql, statement.clone());
        Ok((statement, false))
    }

    async fn execute(&self, statement: &Statement, call: &Call<'_>) -> Result<Rows, tokio_postgres::Error> {
        let stream = self.client.query_raw(statement, call.params.iter().copied()).await?;
        let mut stream = std::pin::pin!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        Ok(Rows::new(rows, stream.rows_affected().unwrap_or(0), call.origin))
    }

    fn statements(&self) -> MutexGuard<'_, Statements<Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the server refused to begin because what was prepared is gone, or no longer what it was.
fn is_stale(cause: &tokio_postgres::Error) -> bool {
    cause.as_db_error().is_some_and(|error| {
        *error.code() == SqlState::INVALID_SQL_STATEMENT_NAME
            // The message may be translated; the routine's name is not.
            || (*error.code() == SqlState::FEATURE_NOT_SUPPORTED
                && error.routine() == Some("RevalidateCachedQuery"))
    })
}
