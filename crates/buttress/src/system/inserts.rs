use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_batch::{Batch, BatchLayer, Stats};
use buttress_core::{Metric, Observe, Origin, Setting, WeakObserve};
use buttress_postgres::{Error, InsertBatch, Inserted, SqlStateClassifier};
use tower_layer::Layer;
use tower_service::Service;

use super::{Database, admission::Gate};

/// Gathers rows that come one by one: see [`Database::batch`]. Clones are the same.
pub struct Inserter<T> {
    rows: Batch<T, Inserted, Error>,
    gate: Gate,
}

impl<T: Clone + Send + Sync + 'static> Inserter<T> {
    pub(super) fn new(name: &str, gate: Gate, database: Database, insert: InsertBatch<T>) -> Self {
        let layer = BatchLayer::new(name).bisect(SqlStateClassifier::blames_a_row);
        Self { rows: layer.layer(Inserts { database, insert }).batch(), gate }
    }

    /// Writes a row, with others or alone.
    ///
    /// # Errors
    /// The row's own, or a rejection: see [`Batch::call`]. While the system shuts down,
    /// [`Closed`](buttress_core::Reason::Closed).
    ///
    /// # Cancellation
    /// Dropped before the row was taken into a statement, it is not written.
    pub async fn call(&self, row: T) -> Result<Inserted, Error> {
        let _inside = self.gate.enter()?;
        self.rows.call(row).await
    }

    /// The figures since it was made.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.rows.stats()
    }
}

/// The figures of its [`Batch`].
impl<T: Clone + Send + Sync + 'static> Observe for Inserter<T> {
    fn origin(&self) -> Origin {
        self.rows.origin()
    }

    fn downgrade(&self) -> WeakObserve {
        self.rows.downgrade()
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        self.rows.observe(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.rows.settings(visit);
    }
}

impl<T> Clone for Inserter<T> {
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), gate: self.gate.clone() }
    }
}

/// Shows no row.
impl<T> fmt::Debug for Inserter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inserter").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// What a batcher calls: rows on their way through the database's layers. Not through the gate, which each row's caller has
/// passed: what was taken is written, also while the system shuts down.
pub(super) struct Inserts<T> {
    pub(super) database: Database,
    pub(super) insert: InsertBatch<T>,
}

impl<T> Clone for Inserts<T> {
    fn clone(&self) -> Self {
        Self { database: self.database.clone(), insert: self.insert.clone() }
    }
}

impl<T: Send + Sync + 'static> Service<Vec<T>> for Inserts<T> {
    type Response = Vec<Result<Inserted, Error>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, rows: Vec<T>) -> Self::Future {
        let Self { database, insert } = self.clone();
        // A box for each statement of many rows, since an `async` block has no name.
        Box::pin(async move { database.insert(async || insert.insert(&rows).await).await })
    }
}
