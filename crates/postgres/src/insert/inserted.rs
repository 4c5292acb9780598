use crate::Row;

/// What became of a row.
#[derive(Debug, Clone)]
pub struct Inserted {
    row: Option<Row>,
    skipped: bool,
}

impl Inserted {
    pub(crate) const WRITTEN: Self = Self { row: None, skipped: false };
    pub(crate) const SKIPPED: Self = Self { row: None, skipped: true };

    pub(crate) fn returning(row: Row) -> Self {
        Self { row: Some(row), skipped: false }
    }

    /// Whether it was not written, because its key was there: by
    /// [`skip_on_conflict`](crate::InsertBatchBuilder::skip_on_conflict), or by a trigger of the table's.
    #[must_use]
    pub fn is_skipped(&self) -> bool {
        self.skipped
    }

    /// What [`returning`](crate::InsertBatchBuilder::returning) asked for. None if it was skipped, or nothing was asked for.
    #[must_use]
    pub fn row(&self) -> Option<&Row> {
        self.row.as_ref()
    }
}
