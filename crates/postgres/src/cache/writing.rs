use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{QueryCache, Table, cache::judge::End};

/// For how long a write whose end is not known counts as one that may still come to its commit: longer than this client takes
/// to cancel what was given up.
const DOUBT: Duration = Duration::from_secs(5);

/// A write under way. Dropped, its end is not known.
pub(crate) struct Writing {
    cache: QueryCache,
    tables: Arc<[Table]>,
    end: End,
}

impl Writing {
    /// One that has not begun.
    pub(crate) fn new(cache: QueryCache, tables: Arc<[Table]>) -> Self {
        Self { cache, tables, end: End::Unchanged }
    }

    pub(crate) fn begin(&mut self) {
        self.end = End::Unknown;
    }

    pub(crate) fn end(mut self, end: End) {
        self.end = end;
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let versions = &self.cache.shared.versions;
        match self.end {
            End::Unchanged => {}
            End::Changed => versions.changed(&self.tables),
            End::Unknown => versions.in_doubt(&self.tables, Instant::now() + DOUBT),
        }
    }
}
