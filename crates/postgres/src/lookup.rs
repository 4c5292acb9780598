use std::{
    collections::HashMap,
    error::Error as StdError,
    fmt,
    future::Future,
    hash::Hash,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::BytesMut;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tower_service::Service;

use crate::{Error, FromRow, Postgres, Query, QueryError, Row};

/// Looks up many keys by one query: a [`Service`] of `Vec<K>`, made to stand behind a batching layer.
///
/// `A` says what a key's answer is: `Option<R>` for at most one row, `Vec<R>` for any number, in the order in which they came
/// back.
///
/// See the [crate's documentation](crate#many-rows-one-round-trip).
pub struct LookupBatch<K, A> {
    db: Postgres,
    query: Query,
    column: Arc<str>,
    answers: PhantomData<fn(K) -> A>,
}

impl<K, A> LookupBatch<K, A>
where
    K: ToSql + for<'a> FromSql<'a> + Eq + Hash + Send + Sync + 'static,
    A: Found,
{
    /// A query with the parameter `:keys`, an array, whose rows tell by this column which key they belong to:
    /// `select id, name from users where id = any(:keys)`. Other parameters are bound before.
    ///
    /// Keys are matched by Rust's `==`: where the database is of another opinion (a column without case, say), use
    /// what both agree on (`lower(name)`).
    pub fn new(db: &Postgres, query: Query, column: impl Into<Arc<str>>) -> Self {
        Self { db: db.clone(), query, column: column.into(), answers: PhantomData }
    }

    /// The answers, in the order of the keys. A key may be there several times.
    ///
    /// # Errors
    /// Of a key: [`Error::TooMany`] if it has several rows where there may be one, [`Error::Decode`] if a row cannot be read.
    /// Of the whole: [`Error::Decode`] if a row's key is `NULL`; [`QueryError::NotAsked`] if it is none of the keys; else see
    /// [`Error`].
    ///
    /// # Cancellation
    /// Dropped unfinished, the query is cancelled on the server, and its connection is discarded.
    pub async fn get(&self, keys: Vec<K>) -> Result<Vec<Result<A, Error>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let shared = self.db.shared();
        let keys = Arc::new(keys);
        let rows = shared.query(&self.query.clone().bind("keys", Keys(Arc::clone(&keys)))).await?;

        let places = Places::of(&keys);
        let mut answers: Vec<Result<A, Error>> = keys.iter().map(|_| Ok(A::default())).collect();
        for row in &rows {
            let key: K = row.get(&*self.column)?;
            let Some(mut place) = places.first.get(&key).copied() else {
                let cause = QueryError::NotAsked((&*self.column).into());
                return Err(Error::Query { instance: shared.origin, cause });
            };
            while let Some(answer) = answers.get_mut(place) {
                if let Ok(found) = answer
                    && let Err(error) = found.add(row)
                {
                    *answer = Err(error);
                }
                place = places.next.get(&place).copied().unwrap_or(usize::MAX);
            }
        }
        Ok(answers)
    }
}

/// Where a key stands, and where it stands again.
struct Places<'a, K> {
    first: HashMap<&'a K, usize>,
    next: HashMap<usize, usize>,
}

impl<'a, K: Eq + Hash> Places<'a, K> {
    fn of(keys: &'a [K]) -> Self {
        let mut places = Self { first: HashMap::with_capacity(keys.len()), next: HashMap::new() };
        for (place, key) in keys.iter().enumerate().rev() {
            if let Some(later) = places.first.insert(key, place) {
                places.next.insert(place, later);
            }
        }
        places
    }
}

/// What a key's answer may be: `Option<R>` or `Vec<R>`, of an `R` that is read from a row.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key's answer",
    note = "an answer is `Option<R>` for at most one row, or `Vec<R>`, where `R: FromRow` (a `Row` is one)"
)]
pub trait Found: sealed::Sealed + Default + Send + 'static {
    /// Adds a row of the key's.
    ///
    /// # Errors
    /// If it is one too many, or cannot be read.
    fn add(&mut self, row: &Row) -> Result<(), Error>;
}

mod sealed {
    pub trait Sealed {}
    impl<R> Sealed for Option<R> {}
    impl<R> Sealed for Vec<R> {}
}

impl<R: FromRow + Send + 'static> Found for Option<R> {
    fn add(&mut self, row: &Row) -> Result<(), Error> {
        if self.is_some() {
            return Err(row.too_many());
        }
        *self = Some(R::from_row(row)?);
        Ok(())
    }
}

impl<R: FromRow + Send + 'static> Found for Vec<R> {
    fn add(&mut self, row: &Row) -> Result<(), Error> {
        self.push(R::from_row(row)?);
        Ok(())
    }
}

/// Shared with the one who asks, who needs them when the rows are there.
struct Keys<K>(Arc<Vec<K>>);

impl<K: ToSql> ToSql for Keys<K> {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        self.0.to_sql(ty, out)
    }

    fn accepts(ty: &Type) -> bool {
        <Vec<K> as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl<K> fmt::Debug for Keys<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl<K, A> Service<Vec<K>> for LookupBatch<K, A>
where
    K: ToSql + for<'a> FromSql<'a> + Eq + Hash + Send + Sync + 'static,
    A: Found,
{
    type Response = Vec<Result<A, Error>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    /// Always ready, as [`Postgres`] is.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, keys: Vec<K>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move { this.get(keys).await })
    }
}

impl<K, A> Clone for LookupBatch<K, A> {
    fn clone(&self) -> Self {
        Self {
            db: self.db.clone(),
            query: self.query.clone(),
            column: Arc::clone(&self.column),
            answers: PhantomData,
        }
    }
}

impl<K, A> fmt::Debug for LookupBatch<K, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { db, query, column, .. } = self;
        f.debug_struct("LookupBatch").field("db", db).field("query", query).field("column", column).finish()
    }
}
