use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use buttress_core::Origin;
use futures_util::future::join_all;
use tokio_postgres::Statement;
use tower_service::Service;

use crate::{
    Error, Postgres, Query, Rows,
    connection::{Call, Connection},
    on_connection::Work,
    postgres::Shared,
    query::Param,
    recent::Text,
    sent::Sent,
};

impl Postgres {
    /// Runs these statements on one connection, all of them sent before the first answer is awaited: one round trip instead
    /// of many. The results are in their order.
    ///
    /// With [`StatementMode::Unnamed`](crate::StatementMode::Unnamed) each takes a round trip of its own.
    ///
    /// They are carried out one after the other, each for itself: that one fails changes nothing for the others. What must
    /// happen as a whole is a [`transaction`](Self::transaction). One that the server does not prepare before the others have
    /// run (its table is made by one of them, say) has round trips of its own, and those behind it wait. Only one that was
    /// prepared and no longer fits (its table was altered) is run once more behind the others.
    ///
    /// # Errors
    /// Of a statement: see [`Error`]. Of the whole: if there is no connection, or the deadline passes, in which case nobody
    /// knows which of them were carried out.
    ///
    /// # Cancellation
    /// Dropped unfinished, the statement that runs is cancelled on the server, and the connection is discarded. Those that
    /// were before it are carried out, and perhaps some behind it.
    pub async fn pipeline(&self, queries: &[Query]) -> Result<Vec<Result<Rows, Error>>, Error> {
        self.shared().pipeline(queries).await
    }

    /// [`pipeline`](Self::pipeline) as a service.
    #[must_use]
    pub fn pipelined(&self) -> Pipelined {
        Pipelined(self.clone())
    }
}

impl Shared {
    async fn pipeline(&self, queries: &[Query]) -> Result<Vec<Result<Rows, Error>>, Error> {
        let origin = self.origin;
        let parsed: Vec<_> = queries.iter().map(|query| self.texts.parse(query.text())).collect();
        let mut statements = Vec::with_capacity(queries.len());
        let mut wrong = Vec::new();
        for (place, (query, parsed)) in queries.iter().zip(&parsed).enumerate() {
            let resolved = parsed.as_ref().map_err(Clone::clone).and_then(|parsed| {
                let params = query.resolve(parsed)?;
                Ok((parsed, params))
            });
            match resolved {
                Ok(statement) => statements.push(statement),
                Err(cause) => wrong.push((place, cause)),
            }
        }
        let deadline = self.deadline()?;
        let mut answers = Vec::new();
        if !statements.is_empty() {
            self.counters.queries.fetch_add(statements.len() as u64, Relaxed);
            answers = self.on_connection(deadline, &Pipeline { origin, statements }).await?;
        }
        let (mut answers, mut wrong) = (answers.into_iter(), wrong.into_iter().peekable());
        let answer = |place| match wrong.next_if(|(wrong, _)| *wrong == place) {
            Some((_, cause)) => Err(Error::Query { instance: origin, cause }),
            None => answers.next().expect("it was sent, or it was wrong"),
        };
        Ok((0..queries.len()).map(answer).collect())
    }
}

struct Pipeline<'a> {
    origin: Origin,
    statements: Vec<(&'a Arc<Text>, Vec<Param<'a>>)>,
}

impl Pipeline<'_> {
    /// Otherwise those that are prepared already would overtake the others.
    /// Where nothing is prepared under a name, each waits for the one before: to look up a text takes a transaction, into which
    /// others must not get.
    async fn prepare(&self, connection: &Connection) -> Result<HashMap<&str, Statement>, Error> {
        if !connection.names_statements() {
            return Ok(HashMap::new());
        }
        let mut texts: Vec<&str> = self.statements.iter().map(|(text, _)| &*text.sql).collect();
        texts.sort_unstable();
        texts.dedup();
        // Held until all have run, also those that the connection does not keep.
        let mut prepared = HashMap::with_capacity(texts.len());
        let preparing = texts.into_iter().map(async |sql| (sql, connection.prepare_named(sql).await));
        for (sql, result) in join_all(preparing).await {
            match result {
                Ok((statement, _)) => _ = prepared.insert(sql, statement),
                Err(cause) => {
                    let error = Error::of_statement(self.origin, cause, false);
                    // Any other comes again when it is run.
                    if error.breaks_connection() {
                        return Err(error);
                    }
                }
            }
        }
        Ok(prepared)
    }
}

impl Work for Pipeline<'_> {
    type Output = Vec<Result<Rows, Error>>;

    async fn on(&self, connection: &Connection, sent: &Sent) -> Result<Self::Output, Error> {
        let calls: Vec<Call<'_>> =
            self.statements.iter().map(|(text, params)| Call::new(self.origin, text, params)).collect();
        let prepared = self.prepare(connection).await?;
        let statement = |call: &Call<'_>| prepared.get(&*call.text.sql).cloned();
        let mut answers = Vec::with_capacity(calls.len());
        let mut rest = &calls[..];
        while !rest.is_empty() {
            // One that could not be prepared, because of a table that one before it makes, say, has a round trip of its own.
            let together = rest.iter().take_while(|call| statement(call).is_some()).count().max(1);
            let (next, others) = rest.split_at(together);
            let running = next.iter().map(|call| connection.run_as(statement(call), call, sent));
            answers.extend(join_all(running).await);
            rest = others;
        }
        // Before anything was carried out, or so early that nobody has an answer.
        if answers.iter().all(is_lost) {
            let sent = |answer: &Result<Rows, Error>| answer.as_ref().is_err_and(Error::sent);
            let any = answers.iter().position(sent).unwrap_or(0);
            return answers.swap_remove(any).map(|_| Vec::new());
        }
        Ok(answers)
    }

    fn leaves_it_fit(answers: &Self::Output) -> bool {
        !answers.iter().any(is_lost)
    }
}

fn is_lost(answer: &Result<Rows, Error>) -> bool {
    answer.as_ref().is_err_and(Error::breaks_connection)
}

/// Statements of any kind, in one round trip: [`Postgres::pipeline`] as a [`Service`] of many queries, made to stand behind a
/// batching layer. Made by [`Postgres::pipelined`].
#[derive(Debug, Clone)]
pub struct Pipelined(Postgres);

impl Service<Vec<Query>> for Pipelined {
    type Response = Vec<Result<Rows, Error>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    /// Always ready, as [`Postgres`] is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, queries: Vec<Query>) -> Self::Future {
        let db = self.0.clone();
        Box::pin(async move { db.pipeline(&queries).await })
    }
}
