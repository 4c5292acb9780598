//! The plan of a statement, on request. Nothing is executed.
//!
//! A text gets no further than `PREPARE name AS`, which is sent by the extended protocol: the server refuses a second
//! statement there, however it reads the quotes, and the lexer refuses it before. What is prepared is planned by
//! `EXPLAIN EXECUTE name(null, ..)`, a text of our own, in a transaction that may only read and is rolled back.

use std::fmt;

use tokio::time::timeout;

use crate::{
    Error, Postgres, Query, QueryError, SlowQuery,
    connection::Connection,
    lexer::{Lexer, Token},
    named::parse,
    postgres::Shared,
    within::within,
};

/// What [`Postgres::explain`] explains: the text of a [`Query`](crate::Query), or one of
/// [`Postgres::slow_queries`]. `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct Explained<'a>(What<'a>);

#[derive(Clone, Copy)]
enum What<'a> {
    Text(&'a str),
    Slow(&'a SlowQuery),
}

impl<'a> From<&'a str> for Explained<'a> {
    fn from(text: &'a str) -> Self {
        Self(What::Text(text))
    }
}

impl<'a> From<&'a String> for Explained<'a> {
    fn from(text: &'a String) -> Self {
        Self(What::Text(text))
    }
}

impl<'a> From<&'a Query> for Explained<'a> {
    fn from(query: &'a Query) -> Self {
        Self(What::Text(query.text()))
    }
}

impl<'a> From<&'a SlowQuery> for Explained<'a> {
    fn from(slow: &'a SlowQuery) -> Self {
        Self(What::Slow(slow))
    }
}

impl fmt::Debug for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Explained").finish_non_exhaustive()
    }
}

/// A name that nobody else gives: a query that would is refused, and the driver's own are `s1`, `s2`, ..
const PREPARE: &str = "PREPARE buttress_explained AS ";
const SETTINGS: &str = "SET TRANSACTION READ ONLY; SET LOCAL plan_cache_mode = force_generic_plan";
const ROLL_BACK: &str = "ROLLBACK";
const ROLL_BACK_AND_FORGET: &str = "ROLLBACK; DEALLOCATE buttress_explained";

impl Postgres {
    /// The plan that the server would choose for a statement if it did not know the parameters' values: `EXPLAIN` of
    /// a generic plan, a line of text for each of its nodes. Nothing is executed.
    ///
    /// It takes `SELECT`, `VALUES`, `TABLE`, `INSERT`, `UPDATE`, `DELETE`, `MERGE` and `WITH`, alone in its text, on
    /// Postgres 12 or later. It takes a connection of the pool's for five round trips, and leaves nothing on it.
    ///
    /// The planner itself calls functions that are declared `IMMUTABLE` or `STABLE`, as it does for any statement; one
    /// that was declared so and writes all the same is refused, since the transaction may only read, and what it sets is
    /// rolled back; but an advisory lock of the session that it takes stays, as after a query. A plan shows the literals
    /// of the text, and so does the server's error: whoever must not see them must not see either.
    ///
    /// # Errors
    /// See [`Error`]. [`QueryError::NotExplained`] of a text of another kind, one with several statements, or a slow
    /// one whose text was longer than 16 KiB; nothing was sent then. The server's, if it finds something wrong with the
    /// statement, or with a null for a parameter: the type of one may be a domain that has none (23502). None says that
    /// the statement may have been carried out.
    ///
    /// # Cancellation
    /// Dropped unfinished, or if the deadline passes, the connection is discarded.
    pub async fn explain<'a>(&self, statement: impl Into<Explained<'a>>) -> Result<String, Error> {
        let shared = self.shared();
        let wrong = |cause| Error::Query { instance: shared.origin, cause };
        let (sql, parameters) = match statement.into().0 {
            What::Text(text) => {
                let parsed = parse(text).map_err(wrong)?;
                (single(&parsed.sql).map_err(wrong)?.to_owned(), parsed.names.len())
            }
            What::Slow(slow) => {
                let original = slow
                    .original()
                    .ok_or_else(|| wrong(QueryError::NotExplained("its text is too long to be kept")))?;
                (single(&original.sql).map_err(wrong)?.to_owned(), original.parameters)
            }
        };
        shared.explain(&sql, parameters).await
    }
}

impl Shared {
    async fn explain(&self, sql: &str, parameters: usize) -> Result<String, Error> {
        let deadline = self.deadline()?;
        let lease = self.begin("BEGIN", deadline).await?;
        let mut prepared = false;
        let asked = within(deadline, plan(lease.connection(), sql, parameters, &mut prepared)).await;
        let Ok(asked) = asked else { return Err(self.no_answer(false)) };
        // Nothing of it is carried out, so nothing was sent as far as the caller is concerned.
        let answer = asked.map_err(|cause| Error::of_statement(self.origin, cause, false));
        if answer.as_ref().err().is_some_and(Error::breaks_connection) {
            lease.settle(false);
            return answer;
        }
        // A prepared statement outlives the transaction.
        let last = if prepared { ROLL_BACK_AND_FORGET } else { ROLL_BACK };
        let left = timeout(self.recycle_timeout, lease.connection().client.batch_execute(last)).await;
        lease.settle(matches!(left, Ok(Ok(()))));
        answer
    }
}

async fn plan(
    connection: &Connection,
    sql: &str,
    parameters: usize,
    prepared: &mut bool,
) -> Result<String, tokio_postgres::Error> {
    let client = &connection.client;
    client.batch_execute(SETTINGS).await?;
    client.query_typed(&format!("{PREPARE}{sql}"), &[]).await?;
    *prepared = true;
    let explain = match parameters {
        0 => "EXPLAIN EXECUTE buttress_explained".to_owned(),
        _ => format!("EXPLAIN EXECUTE buttress_explained({})", vec!["null"; parameters].join(", ")),
    };
    let rows = client.query_typed(&explain, &[]).await?;
    let lines: Result<Vec<&str>, _> = rows.iter().map(|row| row.try_get(0)).collect();
    Ok(lines?.join("\n"))
}

/// The one statement of a text, without the semicolon behind it.
fn single(sql: &str) -> Result<&str, QueryError> {
    const KINDS: [&str; 8] = ["SELECT", "VALUES", "TABLE", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH"];
    let mut end = 0;
    let mut ended = false;
    let mut first = None;
    for (token, piece) in Lexer::new(sql) {
        match token {
            Token::Space => {}
            Token::Symbol(b';') => ended = true,
            _ if ended => return Err(QueryError::NotExplained("its text has several statements")),
            _ => {}
        }
        if !ended {
            end += piece.len();
        }
        if !matches!(token, Token::Space | Token::Symbol(b'(')) {
            first.get_or_insert((token, piece));
        }
    }
    match first {
        Some((Token::Word, word)) if KINDS.iter().any(|kind| kind.eq_ignore_ascii_case(word)) => {
            Ok(&sql[..end])
        }
        _ => Err(QueryError::NotExplained(
            "only SELECT, INSERT, UPDATE, DELETE, MERGE, VALUES, TABLE and WITH have a plan",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_of_a_kind_that_has_a_plan() {
        assert_eq!(single("select ';' , $$;$$ /* ; */ , \";\""), Ok("select ';' , $$;$$ /* ; */ , \";\""));
        assert_eq!(single(" (select 1) ; -- ;\n ;"), Ok(" (select 1) "));
        for text in [
            "select 1; drop table t",
            "select 1;;values (2)",
            "select 1; 'a'",
            "; select 1",
            "",
            "(",
            "'select'",
            "\"select\"",
            "selectx",
            "explain select 1",
            "analyze t",
            "execute a",
            "create table t as select 1",
            "call f()",
            "do $$ begin end $$",
        ] {
            assert!(matches!(single(text), Err(QueryError::NotExplained(_))), "{text}");
        }
    }
}
