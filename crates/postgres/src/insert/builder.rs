use tokio_postgres::types::ToSql;

use crate::{
    InsertBatch, InvalidConfig, Postgres, Table,
    insert::{
        column::Column,
        text::{OnConflict, Target},
    },
};

/// Which columns of a table are written, and where their values are in a `T`. Made by [`InsertBatch::builder`].
///
/// Columns are named as the catalogue has them, without quotes.
#[must_use = "it does nothing until it is built"]
#[derive(Debug)]
pub struct InsertBatchBuilder<T> {
    table: Table,
    columns: Vec<Column<T>>,
    on_conflict: OnConflict,
    returning: Vec<Box<str>>,
    copy_above: usize,
}

impl<T: Send + Sync + 'static> InsertBatchBuilder<T> {
    pub(crate) fn new(table: Table) -> Self {
        Self {
            table,
            columns: Vec::new(),
            on_conflict: OnConflict::Fail,
            returning: Vec::new(),
            copy_above: 1_000,
        }
    }

    /// Writes this column, from a field: `|event: &Event| &event.kind`. Its value must have a Rust type that the driver takes for
    /// the column's; `Option::None` is `NULL`. Columns that are not named here get their defaults.
    pub fn column<V: ToSql>(
        mut self,
        name: impl Into<Box<str>>,
        value: impl for<'a> Fn(&'a T) -> &'a V + Send + Sync + 'static,
    ) -> Self {
        self.columns.push(Column::new(name.into(), value));
        self
    }

    /// Writes this column, from a value that is computed.
    pub fn column_with<V: ToSql>(
        mut self,
        name: impl Into<Box<str>>,
        value: impl Fn(&T) -> V + Send + Sync + 'static,
    ) -> Self {
        self.columns.push(Column::computed(name.into(), value));
        self
    }

    /// Leaves out rows whose key is there already (`ON CONFLICT (key) DO NOTHING`);
    /// [`Inserted::is_skipped`](crate::Inserted::is_skipped) tells which. Of several rows of a batch with equal keys the first is written.
    ///
    /// The columns of the key are those of a unique index, must be among those that are written, and must not be null.
    ///
    /// Behind a retry, "it was there" may mean that an earlier attempt of the same call has written it.
    pub fn skip_on_conflict<N: Into<Box<str>>>(mut self, key: impl IntoIterator<Item = N>) -> Self {
        self.on_conflict = OnConflict::Skip { key: names(key) };
        self
    }

    /// Replaces these columns of a row whose key is there already (`ON CONFLICT (key) DO UPDATE SET ..`). Of several rows of
    /// a batch with equal keys the last is written, on behalf of all.
    ///
    /// What holds for the key of [`skip_on_conflict`](Self::skip_on_conflict) holds here.
    pub fn update_on_conflict<N: Into<Box<str>>, M: Into<Box<str>>>(
        mut self,
        key: impl IntoIterator<Item = N>,
        columns: impl IntoIterator<Item = M>,
    ) -> Self {
        self.on_conflict = OnConflict::Update { key: names(key), columns: names(columns) };
        self
    }

    /// Brings these columns of each row that was written back to its caller: what the database made of it, such as a number
    /// from a sequence.
    pub fn returning<N: Into<Box<str>>>(mut self, columns: impl IntoIterator<Item = N>) -> Self {
        self.returning = names(columns);
        self
    }

    /// Batches of more rows are sent by `COPY`, where there is no conflict to settle and nothing comes back: 1,000 by
    /// default, and such with a column that is an array or composite always. `usize::MAX`: never, for a view or a table with row-level security, say, which refuse it, or a table with
    /// rules, which `COPY` does not look at.
    pub fn copy_above(mut self, rows: usize) -> Self {
        self.copy_above = rows;
        self
    }

    /// Does no I/O: what the table's columns are is asked for with the first batch.
    ///
    /// # Errors
    /// If no column is written, one is written twice, or a column of the key or an updated one is none of those written.
    pub fn build(self, db: &Postgres) -> Result<InsertBatch<T>, InvalidConfig> {
        let Self { table, columns, on_conflict, returning, copy_above } = self;
        let wrong =
            |why: String| Err(InvalidConfig::Insert { table: table.to_string().into(), why: why.into() });
        if columns.is_empty() {
            return wrong("no column is written".into());
        }
        let count = |name: &str| columns.iter().filter(|column| *column.name == *name).count();
        if let Some(column) = columns.iter().find(|column| count(&column.name) > 1) {
            return wrong(format!("the column `{}` is written twice", column.name));
        }
        let (key, updated): (&[Box<str>], &[Box<str>]) = match &on_conflict {
            OnConflict::Fail => (&[], &[]),
            OnConflict::Skip { key } => (key, &[]),
            OnConflict::Update { key, columns } => (key, columns),
        };
        if let Some(column) = key.iter().chain(updated).find(|name| count(name) == 0) {
            return wrong(format!("the column `{column}` is part of the conflict, but is not written"));
        }
        match &on_conflict {
            OnConflict::Skip { key } | OnConflict::Update { key, .. } if key.is_empty() => {
                return wrong("the key of the conflict has no column".into());
            }
            OnConflict::Update { columns, .. } if columns.is_empty() => {
                return wrong("no column is updated: leave the row as it is by `skip_on_conflict`".into());
            }
            _ => {}
        }
        let names = columns.iter().map(|column| column.name.clone()).collect();
        let target = Target { table: table.quoted().into(), columns: names, on_conflict, returning };
        Ok(InsertBatch::new(db.clone(), target, columns, copy_above))
    }
}

fn names<N: Into<Box<str>>>(names: impl IntoIterator<Item = N>) -> Vec<Box<str>> {
    names.into_iter().map(Into::into).collect()
}
