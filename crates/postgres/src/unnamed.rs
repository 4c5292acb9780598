//! Statements without names, for poolers that give each transaction another of the server's connections.
//!
//! The unnamed statement is parsed, bound and run in one exchange, which a pooler keeps together. That takes the types of
//! the parameters. They are looked up once for each text of a pool, by preparing it under a name inside of a transaction,
//! which a pooler keeps together as well, and closing it there.
//!
//! The driver looks up types that are not built in by statements of its own. It prepares them once and then takes them
//! to be there, so they are prepared for it again, inside of each transaction in which a text is looked up.

use std::{
    collections::HashSet,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use buttress_core::Origin;
use deadpool_postgres::ClientWrapper;
use futures_util::future::join;
use tokio_postgres::{
    SimpleQueryMessage, Statement,
    error::SqlState,
    types::{Oid, Type},
};

use crate::{
    Error,
    recent::{Generations, LONGEST},
};

/// Whether statements stay prepared on the server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StatementMode {
    /// Prepared once on each connection, under a name, and kept.
    #[default]
    Named,
    /// Parsed with each call, in the same round trip; nothing stays. For PgBouncer in transaction mode and its kin.
    Unnamed,
}

/// What was looked up of the texts of a pool. It is as bounded as the texts are.
#[derive(Debug, Default)]
pub(crate) struct Shapes(Mutex<Generations<Shape>>);

/// The types of a text.
#[derive(Debug)]
pub(crate) struct Shape {
    params: Box<[Type]>,
    /// Of its columns, those that the driver has to look up.
    foreign: Box<[Oid]>,
}

impl Shape {
    fn of(statement: &Statement) -> Self {
        let columns = statement.columns().iter().map(|column| column.type_().oid());
        Self {
            params: statement.params().into(),
            foreign: columns.filter(|oid| Type::from_oid(*oid).is_none()).collect(),
        }
    }

    pub(crate) fn params(&self) -> &[Type] {
        &self.params
    }
}

/// What a connection has to know to run statements without names.
#[derive(Debug)]
pub(crate) struct Unnamed {
    shapes: Arc<Shapes>,
    driver: Mutex<Driver>,
}

/// What the driver keeps of this connection.
#[derive(Debug, Default)]
struct Driver {
    /// Types that it has looked up.
    known: HashSet<Oid>,
    /// Its own statements: the name, and the text.
    own: Vec<(Box<str>, Box<str>)>,
    /// How many texts are being looked up. In a transaction that may be several, which nothing keeps from being polled in
    /// any order: none waits for another, but the first makes the names for all, and the last forgets them.
    looking: usize,
    /// How many ever were.
    begun: u64,
    /// Whether one has left it to the others to forget the names.
    owed: bool,
}

/// The driver has three. What else a server says it has is not believed.
const MOST_OWN: usize = 3;
const LONGEST_OWN: usize = 4 * 1024;
/// Then they are looked up anew. A server that makes up types must not fill the memory.
const MOST_KNOWN: usize = 4 * 1024;

/// Under names that nobody else can rely on: whoever names statements behind such a pooler has lost them already.
const FORGET_NAMES: &str = "DEALLOCATE ALL";
const OWN_NAMES: &str = "SELECT name, statement FROM pg_catalog.pg_prepared_statements";

impl Unnamed {
    pub(crate) fn new(shapes: &Arc<Shapes>) -> Self {
        Self { shapes: Arc::clone(shapes), driver: Mutex::default() }
    }

    /// The types of a text, and whether they were known from before.
    pub(crate) async fn shape(
        &self,
        client: &ClientWrapper,
        sql: &str,
        in_transaction: bool,
        instance: Origin,
    ) -> Result<(Arc<Shape>, bool), Error> {
        let known = self.shapes.lock().get(sql);
        if let Some(shape) = known.filter(|shape| self.driver().knows(shape)) {
            return Ok((shape, true));
        }
        let shape = Arc::new(self.look_up(client, sql, in_transaction, instance).await?);
        if sql.len() <= LONGEST {
            self.shapes.lock().insert(sql.into(), Arc::clone(&shape));
        }
        Ok((shape, false))
    }

    pub(crate) fn forget(&self, sql: &str) {
        self.shapes.lock().remove(sql);
    }

    async fn look_up(
        &self,
        client: &ClientWrapper,
        sql: &str,
        in_transaction: bool,
        instance: Origin,
    ) -> Result<Shape, Error> {
        let looking = Looking::begin(self);
        let opening = if self.driver().looking == 1 {
            self.driver().opening(in_transaction)
        } else {
            // They are there already.
            String::new()
        };
        // One round trip: the second is on its way before the first is answered.
        let (opened, prepared) = join(client.batch_execute(&opening), client.prepare(sql)).await;
        // The statement is closed here, and so inside of the transaction.
        let found = opened.and(prepared.map(|statement| Shape::of(&statement)));
        let nothing_left = found.as_ref().is_ok_and(|shape| self.driver().has_no_names_for(shape));
        // Whatever it was, the connection may be left in a transaction.
        let lost = |cause: tokio_postgres::Error| Error::Lost { instance, cause: cause.into(), sent: false };
        if in_transaction {
            // Nothing can be asked in a transaction that has failed.
            if found.is_ok() && !nothing_left {
                self.forget_names(client, looking).await.map_err(lost)?;
            }
        } else {
            let closing = match nothing_left {
                true => "COMMIT".to_owned(),
                false => format!("COMMIT; {OWN_NAMES}; {FORGET_NAMES}"),
            };
            let closed = client.simple_query(&closing).await.map_err(lost)?;
            self.driver().learn(&closed);
        }
        let shape = found.map_err(|cause| Error::of_statement(instance, cause, false))?;
        self.driver().known.extend(&shape.foreign);
        Ok(shape)
    }

    /// In a transaction, where others may begin or end to look up meanwhile.
    async fn forget_names(
        &self,
        client: &ClientWrapper,
        looking: Looking<'_>,
    ) -> Result<(), tokio_postgres::Error> {
        loop {
            let begun = {
                let mut driver = self.driver();
                driver.owed = driver.looking > 1;
                if driver.owed {
                    return Ok(());
                }
                driver.begun
            };
            let names = client.simple_query(OWN_NAMES).await?;
            if self.driver().begun == begun {
                self.driver().learn(&names);
                // Sent at once: whoever begins now makes the names anew, behind it.
                drop(looking);
                return client.batch_execute(FORGET_NAMES).await;
            }
        }
    }

    fn driver(&self) -> MutexGuard<'_, Driver> {
        self.driver.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text is being looked up.
struct Looking<'a>(&'a Unnamed);

impl<'a> Looking<'a> {
    fn begin(unnamed: &'a Unnamed) -> Self {
        let mut driver = unnamed.driver();
        driver.looking += 1;
        driver.begun += 1;
        Self(unnamed)
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.driver().looking -= 1;
    }
}

impl Driver {
    fn knows(&self, shape: &Shape) -> bool {
        shape.foreign.iter().all(|oid| self.known.contains(oid))
    }

    /// Nothing was named to look it up, or beside that.
    fn has_no_names_for(&self, shape: &Shape) -> bool {
        self.knows(shape) && self.own.is_empty() && !self.owed
    }

    fn opening(&self, in_transaction: bool) -> String {
        let mut opening = if in_transaction { String::new() } else { "BEGIN; ".to_owned() };
        opening.push_str(FORGET_NAMES);
        for (name, text) in &self.own {
            let _infallible = write!(opening, "; PREPARE {name} (oid) AS {text}");
        }
        opening
    }

    /// What is prepared after a look-up, and was not prepared for it, is the driver's own.
    fn learn(&mut self, closed: &[SimpleQueryMessage]) {
        for message in closed {
            let SimpleQueryMessage::Row(row) = message else { continue };
            let (Ok(Some(name)), Ok(Some(text))) = (row.try_get(0), row.try_get(1)) else { continue };
            let is_new = self.own.iter().all(|(own, _)| **own != *name);
            if is_new && self.own.len() < MOST_OWN && is_drivers_name(name) && text.len() <= LONGEST_OWN {
                self.own.push((name.into(), text.into()));
            }
        }
        if self.known.len() > MOST_KNOWN {
            self.known.clear();
        }
    }
}

/// `s` and a number. So nothing else comes into a text of ours.
fn is_drivers_name(name: &str) -> bool {
    name.strip_prefix('s').is_some_and(|number| {
        (1..=20).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Whether it failed because the driver missed a statement of its own, or found one of another's: then the text itself was
/// on its way already, and may have been carried out.
pub(crate) fn is_from_the_driver(error: &Error) -> bool {
    let states = [SqlState::INVALID_SQL_STATEMENT_NAME, SqlState::DUPLICATE_PSTATEMENT];
    error.sqlstate().is_some_and(|state| states.contains(state))
}

/// Whether a text may have failed only because its types are not those that were looked up.
pub(crate) fn is_of_other_types(error: &Error) -> bool {
    error.sqlstate().is_some_and(|state| state.code().starts_with("42") || *state == SqlState::INTERNAL_ERROR)
        || is_from_the_driver(error)
}

impl Shapes {
    fn lock(&self) -> MutexGuard<'_, Generations<Shape>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_drivers_names_come_into_a_text() {
        for name in ["s0", "s17", "s18446744073709551615"] {
            assert!(is_drivers_name(name), "{name}");
        }
        for name in ["", "s", "s1; drop table t", "S1", "t1", "s1a", "s111111111111111111111", "PGBOUNCER_1"]
        {
            assert!(!is_drivers_name(name), "{name}");
        }
    }

    #[test]
    fn what_the_driver_needs_is_prepared_anew() {
        let mut driver = Driver::default();
        assert_eq!(driver.opening(false), "BEGIN; DEALLOCATE ALL");
        driver.own.push(("s7".into(), "SELECT $1".into()));
        assert_eq!(driver.opening(true), "DEALLOCATE ALL; PREPARE s7 (oid) AS SELECT $1");
    }
}
