use crate::sync::{
    AtomicBool, AtomicU64, Notify,
    Ordering::{Acquire, Relaxed, Release},
};

/// Which connection Redis tells of what others write. One task says so, and many ask.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// Zero, if there is none.
    told: AtomicU64,
    has_told: AtomicBool,
    /// The last one that was lost.
    lost: AtomicU64,
    /// Rung when one begins.
    begun: Notify,
}

impl Telling {
    /// Whether it is this one.
    pub(super) fn is(&self, connection: u64) -> bool {
        // Whatever was forgotten before it began has been forgotten then.
        connection > 0 && self.told.load(Acquire) == connection
    }

    /// From now on Redis tells that connection. Before that all is forgotten, unless it is the first one and `is_clean`.
    pub(super) fn begins(&self, connection: u64, is_clean: impl FnOnce() -> bool, forget: impl FnOnce()) {
        // Before the first one nothing was handed out, and whoever waits for it may keep what he gets.
        let is_first = !self.has_told.swap(true, Relaxed) && is_clean();
        if !is_first {
            forget();
        }
        self.told.store(connection, Release);
        self.begun.notify_waiters();
    }

    /// That connection, or one before it, is lost.
    pub(super) fn ends(&self, connection: u64) {
        self.lost.store(connection, Relaxed);
        self.told.store(0, Relaxed);
    }

    pub(super) fn is_lost(&self, connection: u64) -> bool {
        connection <= self.lost.load(Relaxed)
    }

    /// Returns when it is the one that is current then.
    pub(super) async fn wait(&self, current: impl Fn() -> u64) {
        loop {
            // Listens before it looks.
            let begun = self.begun.notified();
            if self.is(current()) {
                return;
            }
            begun.await;
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
