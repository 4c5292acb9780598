mod builder;
mod column;
mod copy;
mod done;
mod encode;
mod inserted;
mod text;

pub use self::{builder::InsertBatchBuilder, inserted::Inserted};

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use buttress_core::Deadline;
use tokio_postgres::{
    error::SqlState,
    types::{Kind, Type},
};
use tower_service::Service;

use self::{
    column::{Column, written_as},
    copy::Copy,
    done::Done,
    encode::{Encoder, Refused},
    text::Target,
};
use crate::{
    Error, Postgres, QueryError, Rows, Table,
    connection::Call,
    query::{Param, Value},
    recent::Text,
};

/// Inserts many rows by one statement: a [`Service`] of `Vec<T>`, made to stand behind a batching layer. Clones share what
/// they learned of the table.
///
/// See the [crate's documentation](crate#many-rows-one-round-trip).
pub struct InsertBatch<T> {
    db: Postgres,
    plan: Arc<Plan<T>>,
}

struct Plan<T> {
    target: Target,
    columns: Vec<Column<T>>,
    /// Places of the key's columns.
    key: Vec<usize>,
    copy_above: usize,
    single: String,
    copy: Option<Arc<Text>>,
    known: Mutex<Option<Arc<Known>>>,
}

/// What the table's columns are. It is asked for at first, and when a statement fails in a way that says that they changed.
struct Known {
    types: Vec<Type>,
    /// A column that is an array itself, or of a composite type: `unnest` would take it apart.
    array: Option<usize>,
    arrays: String,
}

/// How rows are sent.
enum Way<'a> {
    Single,
    Arrays,
    Copy(&'a Arc<Text>),
}

impl<T: Send + Sync + 'static> InsertBatch<T> {
    /// Begins with the table. Columns are added by [`column`](InsertBatchBuilder::column).
    pub fn builder(table: impl Into<Table>) -> InsertBatchBuilder<T> {
        InsertBatchBuilder::new(table.into())
    }

    pub(crate) fn new(db: Postgres, target: Target, columns: Vec<Column<T>>, copy_above: usize) -> Self {
        let place = |name: &str| columns.iter().position(|column| *column.name == *name);
        let key = target.on_conflict.key().iter().filter_map(|name| place(name)).collect();
        let single = target.single();
        // The driver copies by a statement with a name alone.
        let copy = target.copy().filter(|_| db.shared().pool.manager().names_statements());
        let copy = copy.map(|text| Arc::new(db.shared().texts.verbatim(&text)));
        let known = Mutex::default();
        Self { db, plan: Arc::new(Plan { target, columns, key, copy_above, single, copy, known }) }
    }

    /// Inserts these rows, and tells of each what became of it, in their order. All of them are written by one statement, so
    /// either all that could be sent are written or none.
    ///
    /// # Errors
    /// Of a row: [`Error::Query`], if it cannot be written to the table, and was not sent. Of the whole: see [`Error`].
    ///
    /// # Cancellation
    /// Dropped unfinished, the statement is cancelled on the server, and its connection is discarded.
    pub async fn insert(&self, rows: &[T]) -> Result<Vec<Result<Inserted, Error>>, Error> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let instance = self.db.shared().origin;
        let deadline = self.db.shared().deadline()?;
        let mut repeated = false;
        loop {
            let known = self.known(deadline).await?;
            let error = match self.send(rows, &known, deadline).await {
                Ok(results) => return Ok(results),
                Err(error) => error,
            };
            if may_be_outdated(&error) {
                self.forget();
                if !std::mem::replace(&mut repeated, true) {
                    continue;
                }
            }
            return match error {
                // It is the same for each of them.
                Error::Query {
                    cause: cause @ (QueryError::Unfit { .. } | QueryError::ArrayColumn(_)),
                    ..
                } => Ok(rows.iter().map(|_| Err(Error::Query { instance, cause: cause.clone() })).collect()),
                error => Err(error),
            };
        }
    }

    async fn send(
        &self,
        rows: &[T],
        known: &Known,
        deadline: Option<Deadline>,
    ) -> Result<Vec<Result<Inserted, Error>>, Error> {
        let instance = self.db.shared().origin;
        let wrong = |cause| Error::Query { instance, cause };
        let mut columns = self.plan.columns.iter().zip(&known.types);
        columns.try_for_each(|(column, ty)| column.check(ty)).map_err(wrong)?;
        let encoder = Encoder { columns: &self.plan.columns, types: &known.types, key: &self.plan.key };
        let mut refused = Refused::new();
        let done = match self.way(rows.len(), known).map_err(wrong)? {
            Way::Copy(copy) => {
                let shared = self.db.shared();
                shared.counters.queries.fetch_add(1, Relaxed);
                let columns = shared.texts.parse(&self.plan.single).map_err(wrong)?;
                let copy = Copy { instance, columns: &columns.sql, text: copy, encoder, rows };
                // Boxed, or every insertion's future would have room for it.
                let (written, not_sent) = Box::pin(shared.on_connection(deadline, &copy)).await?;
                refused = not_sent;
                Done::Counted(written)
            }
            Way::Single => match encoder.single(&rows[0]) {
                Ok(values) => {
                    Done::in_order(self.run(&self.plan.single, &values, deadline).await?, &self.plan.target)
                }
                Err(cause) => return Ok(vec![Err(wrong(cause))]),
            },
            Way::Arrays => {
                let arrays = encoder.arrays(rows, &mut refused).map_err(wrong)?;
                if refused.len() == rows.len() {
                    Done::Counted(0)
                } else {
                    let written = self.run(&known.arrays, &arrays, deadline).await?;
                    if self.plan.target.tells_positions() {
                        Done::ByPosition(written)
                    } else {
                        Done::in_order(written, &self.plan.target)
                    }
                }
            }
        };
        let sent = done.tell(rows.len() - refused.len(), instance);
        if refused.is_empty() {
            return Ok(sent);
        }
        let mut sent = sent.into_iter();
        let mut refused = refused.into_iter().peekable();
        let result = |place| match refused.next_if(|(refused, _)| *refused == place) {
            Some((_, cause)) => Err(wrong(cause)),
            None => sent.next().expect("it was sent, or it was refused"),
        };
        Ok((0..rows.len()).map(result).collect())
    }

    /// With values in the order of the columns.
    async fn run(
        &self,
        text: &str,
        values: &[impl Value],
        deadline: Option<Deadline>,
    ) -> Result<Rows, Error> {
        let shared = self.db.shared();
        let instance = shared.origin;
        let text = shared.texts.parse(text).map_err(|cause| Error::Query { instance, cause })?;
        let named = self.plan.columns.iter().zip(values);
        let params: Vec<_> = named.map(|(column, value)| Param::new(&column.name, value)).collect();
        shared.counters.queries.fetch_add(1, Relaxed);
        shared.on_connection(deadline, &Call::new(instance, &text, &params)).await
    }

    fn way(&self, rows: usize, known: &Known) -> Result<Way<'_>, QueryError> {
        let copy = self.plan.copy.as_ref().filter(|_| self.plan.copy_above < usize::MAX);
        match (copy, known.array) {
            // One row could be sent: but what fails as soon as there are two must not wait for load to show.
            (None, Some(at)) => Err(QueryError::ArrayColumn(self.plan.columns[at].name.clone())),
            _ if rows == 1 => Ok(Way::Single),
            (Some(copy), array) if array.is_some() || rows > self.plan.copy_above => Ok(Way::Copy(copy)),
            _ => Ok(Way::Arrays),
        }
    }

    async fn known(&self, deadline: Option<Deadline>) -> Result<Arc<Known>, Error> {
        if let Some(known) = &*self.plan.known.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(known));
        }
        let types = self.db.shared().describe(&self.plan.single, deadline).await?;
        let types: Vec<Type> = types.iter().map(|ty| written_as(ty).clone()).collect();
        let array = types.iter().position(|ty| matches!(ty.kind(), Kind::Array(_) | Kind::Composite(_)));
        let known = Arc::new(Known { arrays: self.plan.target.arrays(&types), array, types });
        *self.plan.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&known));
        Ok(known)
    }

    fn forget(&self) {
        *self.plan.known.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Whether it may have failed only because the table is not any more what it was. Nothing was carried out then.
fn may_be_outdated(error: &Error) -> bool {
    match error {
        Error::Query { cause: QueryError::Unfit { .. }, .. } => true,
        Error::Database { .. } => error.sqlstate().is_some_and(|state| {
            state.code().starts_with("42")
                || [
                    SqlState::FEATURE_NOT_SUPPORTED,
                    SqlState::INVALID_BINARY_REPRESENTATION,
                    SqlState::BAD_COPY_FILE_FORMAT,
                    SqlState::INTERNAL_ERROR,
                ]
                .contains(state)
        }),
        _ => false,
    }
}

impl<T: Send + Sync + 'static> Service<Vec<T>> for InsertBatch<T> {
    type Response = Vec<Result<Inserted, Error>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    /// Always ready, as [`Postgres`] is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, rows: Vec<T>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.insert(&rows).await })
    }
}

impl<T> Clone for InsertBatch<T> {
    fn clone(&self) -> Self {
        Self { db: self.db.clone(), plan: Arc::clone(&self.plan) }
    }
}

impl<T> fmt::Debug for InsertBatch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { target, columns, .. } = &*self.plan;
        f.debug_struct("InsertBatch")
            .field("db", &self.db)
            .field("table", &target.table)
            .field("columns", columns)
            .finish()
    }
}
