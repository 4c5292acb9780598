use std::{fmt, slice, sync::Arc, vec};

use buttress_core::Origin;
use tokio_postgres::{row::RowIndex, types::FromSql};

use crate::Error;

/// Rows are slices of what the driver read in one go: the smallest keeps a whole buffer from being freed.
#[cfg(feature = "cache")]
const BUFFER: usize = 8 * 1024;
/// Of a column the name, the type and so on.
#[cfg(feature = "cache")]
const COLUMN: usize = 100;

/// What a statement answered: its rows, and how many it affected. A clone shares the rows.
#[derive(Debug, Clone)]
pub struct Rows {
    rows: Arc<Vec<Row>>,
    affected: u64,
    origin: Origin,
}

impl Rows {
    pub(crate) fn new(rows: Vec<tokio_postgres::Row>, affected: u64, origin: Origin) -> Self {
        let rows = rows.into_iter().map(|row| Row::new(row, origin)).collect();
        Self { rows: Arc::new(rows), affected, origin }
    }

    /// The only row.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is none, [`Error::TooMany`] if there are several.
    pub fn one(self) -> Result<Row, Error> {
        let instance = self.origin;
        self.optional()?.ok_or(Error::NotFound { instance })
    }

    /// The only row, if there is one.
    ///
    /// # Errors
    /// [`Error::TooMany`] if there are several.
    pub fn optional(self) -> Result<Option<Row>, Error> {
        match self.rows.len() {
            0 | 1 => Ok(match Arc::try_unwrap(self.rows) {
                Ok(mut rows) => rows.pop(),
                Err(shared) => shared.first().cloned(),
            }),
            rows => Err(Error::TooMany { instance: self.origin, rows }),
        }
    }

    /// How many rows were inserted, updated, deleted or selected; 0 for a statement that counts none.
    #[must_use]
    pub fn affected(&self) -> u64 {
        self.affected
    }

    /// How many rows came back.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row came back.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// How many bytes the rows keep, at most, as far as that can be told.
    #[cfg(feature = "cache")]
    pub(crate) fn weight(&self) -> u64 {
        let Some(first) = self.rows.first() else { return 0 };
        let columns = first.row.len();
        let row = size_of::<Row>() + columns * size_of::<Option<std::ops::Range<usize>>>();
        let values: usize = self.rows.iter().map(|row| row.row.raw_size_bytes()).sum();
        (BUFFER + columns * COLUMN + self.rows.len() * row + values) as u64
    }

    /// The rows in their order.
    pub fn iter(&self) -> slice::Iter<'_, Row> {
        self.rows.iter()
    }
}

/// Clones the rows where they are shared with another [`Rows`], as those of a cache are: iterate over `&rows` there.
impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.rows).into_iter()
    }
}

impl<'a> IntoIterator for &'a Rows {
    type Item = &'a Row;
    type IntoIter = slice::Iter<'a, Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// One row. `Debug` shows its columns, not its values.
#[derive(Debug, Clone)]
pub struct Row {
    row: tokio_postgres::Row,
    origin: Origin,
}

impl Row {
    pub(crate) fn new(row: tokio_postgres::Row, origin: Origin) -> Self {
        Self { row, origin }
    }

    /// The value of a column, by its name or its index from 0. `NULL` needs an `Option`.
    ///
    /// # Errors
    /// [`Error::Decode`] if there is no such column, or its type is another.
    pub fn get<'a, T: FromSql<'a>>(&'a self, column: impl RowIndex + fmt::Display) -> Result<T, Error> {
        self.row.try_get(&column).map_err(|cause| Error::Decode {
            instance: self.origin,
            column: column.to_string().into(),
            cause: cause.into(),
        })
    }

    /// Whether there is a column of this name, as [`get`](Self::get) finds it.
    #[must_use]
    pub fn has(&self, column: &str) -> bool {
        self.row.columns().iter().any(|known| known.name().eq_ignore_ascii_case(column))
    }

    /// This row is one more than there may be.
    pub(crate) fn too_many(&self) -> Error {
        Error::TooMany { instance: self.origin, rows: 2 }
    }

    /// The driver's row, for whatever this one does not offer.
    #[must_use]
    pub fn as_driver(&self) -> &tokio_postgres::Row {
        &self.row
    }
}
