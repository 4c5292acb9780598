use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress_core::Origin;
use deadpool_postgres::ClientWrapper;
use futures_util::TryStreamExt;
use tokio_postgres::{
    RowStream, Statement,
    error::{DbError, SqlState},
    types::Type,
};

#[cfg(feature = "cache")]
use crate::Query;
use crate::{
    Error, QueryError, Rows,
    age::Age,
    query::Param,
    recent::{LONGEST, Text},
    sent::Sent,
    statements::Statements,
    statistics::Timed,
    unnamed::{Shape, Unnamed, is_from_the_driver, is_of_other_types},
};

/// A connection with the statements that are prepared on it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: ClientWrapper,
    pub(crate) age: Age,
    statements: Mutex<Statements<Statement>>,
    /// Where nothing stays prepared.
    unnamed: Option<Unnamed>,
}

/// A statement whose parameters' types are known.
#[derive(Debug)]
pub(crate) enum Prepared {
    Named(Statement),
    Unnamed(Arc<Shape>),
}

impl Prepared {
    pub(crate) fn params(&self) -> &[Type] {
        match self {
            Self::Named(statement) => statement.params(),
            Self::Unnamed(shape) => shape.params(),
        }
    }
}

/// A statement ready to be sent.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) origin: Origin,
    pub(crate) text: &'a Arc<Text>,
    pub(crate) params: &'a [Param<'a>],
    pub(crate) in_transaction: bool,
    /// Whether its rows may be kept for long. They must not keep a statement prepared, then, of which a connection has
    /// only so many.
    #[cfg(feature = "cache")]
    pub(crate) is_kept: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn new(origin: Origin, text: &'a Arc<Text>, params: &'a [Param<'a>]) -> Self {
        Self {
            origin,
            text,
            params,
            in_transaction: false,
            #[cfg(feature = "cache")]
            is_kept: false,
        }
    }

    /// One whose answer is kept, if the query says so.
    #[cfg(feature = "cache")]
    pub(crate) fn kept_as(self, query: &Query) -> Self {
        Self { is_kept: query.uses.cached.is_some(), ..self }
    }

    pub(crate) fn in_transaction(self) -> Self {
        Self { in_transaction: true, ..self }
    }
}

impl Connection {
    pub(crate) fn new(client: ClientWrapper, age: Age, statements: usize, unnamed: Option<Unnamed>) -> Self {
        Self { client, age, statements: Mutex::new(Statements::new(statements)), unnamed }
    }

    /// Runs a statement, and collects its rows.
    pub(crate) async fn run(&self, call: &Call<'_>, sent: &Sent) -> Result<Rows, Error> {
        self.run_as(None, call, sent).await
    }

    /// The same, at first by a statement that was prepared for it before.
    pub(crate) async fn run_as(
        &self,
        before: Option<Statement>,
        call: &Call<'_>,
        sent: &Sent,
    ) -> Result<Rows, Error> {
        let running = self.open_as(before, call, sent).await?;
        self.collect(running, call).await
    }

    /// Has a statement bound, so that its rows are on their way. If what was prepared for it no longer holds, it is
    /// prepared anew and bound once more; but not in a transaction that has failed by it.
    ///
    /// Tells `sent` just before the server is asked to run it. Preparing it does not count: that changes nothing.
    pub(crate) async fn open(&self, call: &Call<'_>, sent: &Sent) -> Result<Running, Error> {
        self.open_as(None, call, sent).await
    }

    async fn open_as(
        &self,
        before: Option<Statement>,
        call: &Call<'_>,
        sent: &Sent,
    ) -> Result<Running, Error> {
        let timed = Timed::start(call.text);
        match self.begin(before, call, sent).await {
            Ok((rows, kept)) => Ok(Running { rows, kept, timed }),
            Err(error) => {
                timed.fail(&error);
                Err(error)
            }
        }
    }

    /// Its rows, and whether it was prepared before.
    async fn begin(
        &self,
        mut before: Option<Statement>,
        call: &Call<'_>,
        sent: &Sent,
    ) -> Result<(RowStream, bool), Error> {
        let sql = &*call.text.sql;
        let mut repeated = false;
        loop {
            let (statement, kept) = match before.take() {
                Some(statement) => (Prepared::Named(statement), true),
                None => self.prepare(sql, call.in_transaction, call.origin).await?,
            };
            sent.tell();
            let (reached, error) = match self.bind(&statement, call).await {
                Ok(rows) => return Ok((rows, kept)),
                Err(stopped) => stopped,
            };
            let stale = kept && (reached == Reached::Nothing || self.is_stale(&error));
            if stale {
                self.forget(sql);
            }
            let undone = match reached {
                Reached::Nothing => true,
                Reached::Binding => !call.in_transaction,
                Reached::Running => false,
            };
            let again = stale && undone && !repeated;
            if again || reached == Reached::Nothing {
                sent.take_back();
            }
            if !again {
                return Err(error);
            }
            repeated = true;
        }
    }

    /// The prepared statement, and whether it was kept from before.
    pub(crate) async fn prepare(
        &self,
        sql: &str,
        in_transaction: bool,
        origin: Origin,
    ) -> Result<(Prepared, bool), Error> {
        if let Some(unnamed) = &self.unnamed {
            let found = Box::pin(unnamed.shape(&self.client, sql, in_transaction, origin)).await;
            return found.map(|(shape, kept)| (Prepared::Unnamed(shape), kept));
        }
        let named = self.prepare_named(sql).await;
        named
            .map(|(statement, kept)| (Prepared::Named(statement), kept))
            .map_err(|cause| Error::of_statement(origin, cause, false))
    }

    /// The same, also where others are not named.
    pub(crate) async fn prepare_named(&self, sql: &str) -> Result<(Statement, bool), tokio_postgres::Error> {
        // Closed when it has run: it was made at run time, and would fill the server's memory.
        if sql.len() > LONGEST {
            return Ok((Box::pin(self.client.prepare(sql)).await?, false));
        }
        if let Some(statement) = self.statements().get(sql) {
            return Ok((statement, true));
        }
        self.statements().make_room();
        // Boxed: each call has room for it in its future, and few have to prepare anything.
        let statement = Box::pin(self.client.prepare(sql)).await?;
        self.statements().insert(sql, statement.clone());
        Ok((statement, false))
    }

    /// All rows of a statement that was opened here.
    async fn collect(&self, running: Running, call: &Call<'_>) -> Result<Rows, Error> {
        let Running { rows: stream, kept, timed } = running;
        let mut stream = std::pin::pin!(stream);
        let mut rows = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(row)) => rows.push(row),
                Ok(None) => break,
                Err(cause) => {
                    let error = self.failed(kept.then_some(&call.text.sql), cause, call.origin);
                    timed.fail(&error);
                    return Err(error);
                }
            }
        }
        let affected = stream.rows_affected().unwrap_or(0);
        timed.finish(affected);
        Ok(Rows::new(rows, affected, call.origin))
    }

    /// What a statement failed with that was opened here; its text, if it was kept from before.
    pub(crate) fn failed(&self, kept: Option<&str>, cause: tokio_postgres::Error, origin: Origin) -> Error {
        let error = Error::of_statement(origin, cause, true);
        if let Some(sql) = kept
            && self.is_stale(&error)
        {
            self.forget(sql);
        }
        error
    }

    async fn bind(&self, statement: &Prepared, call: &Call<'_>) -> Result<RowStream, (Reached, Error)> {
        let (instance, names, server) = (call.origin, call.params.len(), statement.params().len());
        if server != names {
            let cause = QueryError::Mismatch { server, names };
            return Err((Reached::Nothing, Error::Query { instance, cause }));
        }
        // It is there when the server has bound the values; what it carries out is in the stream.
        self.send(statement, call).await.map_err(|cause| {
            let error = Error::of_statement(instance, cause, true);
            let unfit = matches!(error, Error::Query { .. });
            let reached = match unfit {
                true => Reached::Nothing,
                false if self.unnamed.is_some() && is_from_the_driver(&error) => Reached::Running,
                false => Reached::Binding,
            };
            (reached, error)
        })
    }

    async fn send(&self, statement: &Prepared, call: &Call<'_>) -> Result<RowStream, tokio_postgres::Error> {
        let params = call.params.iter().copied();
        #[cfg(feature = "cache")]
        let is_kept = call.is_kept;
        #[cfg(not(feature = "cache"))]
        let is_kept = false;
        match statement {
            Prepared::Named(statement) if !is_kept => self.client.query_raw(statement, params).await,
            _ => {
                let typed = params.zip(statement.params().iter().cloned());
                self.client.query_typed_raw(&call.text.sql, typed).await
            }
        }
    }

    /// The next who wants it prepares it anew.
    pub(crate) fn forget(&self, sql: &str) {
        match &self.unnamed {
            Some(unnamed) => unnamed.forget(sql),
            None => self.statements().remove(sql),
        }
    }

    /// Whether what was known of a statement may be why it failed.
    fn is_stale(&self, error: &Error) -> bool {
        is_stale(error) || (self.unnamed.is_some() && is_of_other_types(error))
    }

    /// Whether statements may be prepared here under names.
    pub(crate) fn names_statements(&self) -> bool {
        self.unnamed.is_none()
    }

    fn statements(&self) -> MutexGuard<'_, Statements<Statement>> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A statement that the server carries out. If it fails now, some of it may have been.
pub(crate) struct Running {
    pub(crate) rows: RowStream,
    /// Whether it was prepared before.
    pub(crate) kept: bool,
    pub(crate) timed: Timed,
}

/// How far a statement came that failed before there was anything of its rows.
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
