//! The calls of a client, and whether it lets in any more.

use crate::sync::{AtomicBool, AtomicUsize, Notify, SeqCst, crosswise};

pub(crate) struct Calls {
    count: AtomicUsize,
    closed: AtomicBool,
    /// Tells whoever closes that less is left.
    pub(crate) changed: Notify,
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self { count: AtomicUsize::new(0), closed: AtomicBool::new(false), changed: Notify::new() }
    }

    /// Counts a call, which has to leave, and says whether it is let in.
    pub(crate) fn enter(&self) -> bool {
        self.count.fetch_add(1, SeqCst);
        // Whoever closes looks the other way round: he sees the call, or it sees him.
        crosswise();
        !self.closed.load(SeqCst)
    }

    pub(crate) fn leave(&self) {
        if self.count.fetch_sub(1, SeqCst) == 1 {
            self.tell();
        }
    }

    /// Less is left than before.
    pub(crate) fn tell(&self) {
        crosswise();
        if self.closed.load(SeqCst) {
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        crosswise();
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }
}
