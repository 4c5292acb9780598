use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{clock, tags::Tagged};

/// A value in memory. It is copied out with each hit: what most values lack stands in `more`.
#[derive(Clone)]
pub(crate) struct Slot<V> {
    pub(crate) value: V,
    /// It is fresh before this time.
    pub(crate) until: u64,
    pub(crate) more: Option<Arc<More>>,
}

#[derive(Debug)]
pub(crate) struct More {
    pub(crate) tagged: Tagged,
    /// When it was last asked for, to a sixteenth of the time to idle.
    touched: AtomicU64,
}

impl More {
    pub(crate) fn new(tagged: Tagged) -> Self {
        Self { tagged, touched: AtomicU64::new(clock::now()) }
    }

    /// Whether nobody had asked for it for so long. If somebody had, he does now.
    pub(crate) fn was_idle(&self, idle: u64) -> bool {
        let now = clock::now();
        let since = now.saturating_sub(self.touched.load(Relaxed));
        if since >= idle {
            return true;
        }
        if since >= idle / 16 {
            self.touched.store(now, Relaxed);
        }
        false
    }
}
