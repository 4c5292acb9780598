use crate::sync::{
    AtomicUsize, Notify,
    Ordering::{Acquire, Relaxed, Release},
};

/// The connections that leave: how many are being ended in the background, and a word to whoever closes the pool.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    ending: AtomicUsize,
    told: Notify,
}

impl Departures {
    /// One is about to leave the pool. How many were ending before it.
    pub(crate) fn begin(&self) -> usize {
        self.ending.fetch_add(1, Relaxed)
    }

    pub(crate) fn end(&self) {
        self.ending.fetch_sub(1, Release);
        self.tell();
    }

    /// A connection, or a caller who wanted one, is gone. It is told even where nobody seems to listen: what was counted
    /// down before is seen by whoever begins to listen after this.
    pub(crate) fn tell(&self) {
        self.told.notify_waiters();
    }

    /// Returns when none is ending and the pool, which is closed, is empty: when it has no connections and nobody who makes one.
    pub(crate) async fn all(&self, is_empty: impl Fn() -> bool) {
        loop {
            // Listens before it looks, so that nothing is missed in between. The pool comes first: what has left it was counted
            // before that.
            let told = self.told.notified();
            if is_empty() && self.ending.load(Acquire) == 0 {
                return;
            }
            told.await;
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
