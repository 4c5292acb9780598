use std::sync::Arc;

use crate::{Query, QueryError, Table, repeatable::may_be_cached};

/// What a query said of tables.
#[derive(Clone, Default)]
pub(crate) struct Uses {
    pub(crate) cached: Option<Arc<[Table]>>,
    pub(crate) writes: Option<Arc<[Table]>>,
}

impl Uses {
    pub(crate) fn check(&self, text: &str) -> Result<(), QueryError> {
        match self {
            Self { cached: Some(_), writes: Some(_) } => Err(QueryError::CachedAndWrites),
            Self { cached: Some(_), .. } if !may_be_cached(text) => Err(QueryError::CachedWriter),
            _ => Ok(()),
        }
    }
}

impl Query {
    /// The same, whose answer a [`QueryCache`](crate::QueryCache) may keep until one of these tables changes. Name all that the
    /// answer depends on, also those that only a view or a function reads. With none, its time alone ends it.
    ///
    /// Elsewhere, and in a transaction, it is asked of the database as ever. It must only read, as far as the text tells;
    /// otherwise it is an [`Error::Query`](crate::Error::Query), before anything is sent.
    #[must_use]
    pub fn cached<T: Into<Table>>(mut self, tables: impl IntoIterator<Item = T>) -> Self {
        self.uses.cached = Some(tables.into_iter().map(Into::into).collect());
        self
    }

    /// The same, which changes these tables: a [`QueryCache`](crate::QueryCache) that it goes through forgets what depends on
    /// them when it is done.
    ///
    /// In a transaction this does nothing: use [`QueryCache::writing`](crate::QueryCache::writing) around it.
    #[must_use]
    pub fn writes<T: Into<Table>>(mut self, tables: impl IntoIterator<Item = T>) -> Self {
        self.uses.writes = Some(tables.into_iter().map(Into::into).collect());
        self
    }
}
