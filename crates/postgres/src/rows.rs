use std::{fmt, slice, vec};

use buttress_core::Origin;
use tokio_postgres::{row::RowIndex, types::FromSql};

use crate::Error;

/// What a statement answered: its rows, and how many it affected.
#[derive(Debug, Clone)]
pub struct Rows {
    rows: Vec<Row>,
    affected: u64,
    origin: Origin,
}

impl Rows {
    pub(crate) fn new(rows: Vec<tokio_postgres::Row>, affected: u64, origin: Origin) -> Self {
        Self { rows: rows.into_iter().map(|row| Row { row, origin }).collect(), affected, origin }
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
    pub fn optional(mut self) -> Result<Option<Row>, Error> {
        match self.rows.len() {
            0 | 1 => Ok(self.rows.pop()),
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

    /// The rows in their order.
    pub fn iter(&self) -> slice::Iter<'_, Row> {
        self.rows.iter()
    }
}

impl IntoIterator for Rows {
    type Item = Row;
    type IntoIter = vec::IntoIter<Row>;

    fn into_iter(self) -> Self::IntoIter {
        self.rows.into_iter()
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
    /// The value of a column, by its name or its index from 0. `NULL` needs an `Option`.
    ///
    /// # Errors
    /// [`Error::Decode`] if there is no such column, or its type is another.
    pub fn get<'a, T: FromSql<'a>>(&'a self, column: impl RowIndex + fmt::Display) -> Result<T, Error> {
        self.row.try_get(&column).map_err(|cause| Error::Decode {
            instance: self.origin,
            column: column.to_string().into(),
            cause,
        })
    }

    /// The driver's row, for whatever this one does not offer.
    #[must_use]
    pub fn as_driver(&self) -> &tokio_postgres::Row {
        &self.row
    }
}
