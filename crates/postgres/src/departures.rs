use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use deadpool::managed::Pool;
use tokio::sync::Notify;

use crate::connector::Connector;

/// The connections that leave: how many are being ended in the background, and a word to whoever closes the pool.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    ending: AtomicUsize,
    told: Notify,
}

impl Departures {
    /// How many were ending before this one.
    pub(crate) fn begin(&self) -> usize {
        self.ending.fetch_add(1, Relaxed)
    }

    pub(crate) fn end(&self) {
        self.ending.fetch_sub(1, Relaxed);
        self.tell();
    }

    /// A connection, or a caller who wanted one, is gone. It is told even where nobody seems to listen: what was counted
    /// down before is seen by whoever begins to listen after this.
    pub(crate) fn tell(&self) {
        self.told.notify_waiters();
    }

    /// Returns when the pool, which is closed, has no connections and nobody who makes one.
    pub(crate) async fn all(&self, pool: &Pool<Connector>) {
        loop {
            // Listens before it looks, so that nothing is missed in between.
            let told = self.told.notified();
            let status = pool.status();
            if (status.size, status.waiting, self.ending.load(Relaxed)) == (0, 0, 0) {
                return;
            }
            told.await;
        }
    }
}
