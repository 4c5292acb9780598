//! Who waits for the store, which keeps the worker of a limiter whose last handle is gone.

use crate::sync::{AtomicBool, AtomicUsize, SeqCst, crosswise};

#[derive(Debug)]
pub(crate) struct Callers {
    waiting: AtomicUsize,
    is_closing: AtomicBool,
}

impl Callers {
    pub(crate) fn new() -> Self {
        Self { waiting: AtomicUsize::new(0), is_closing: AtomicBool::new(false) }
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Whether one more may wait, who then has to leave.
    pub(crate) fn enter(&self, most: usize) -> bool {
        let is_in = self.waiting.fetch_add(1, SeqCst) < most;
        if !is_in {
            self.waiting.fetch_sub(1, SeqCst);
        }
        is_in
    }

    /// Says whether the worker is to be told: it may wait for nothing else.
    pub(crate) fn leave(&self) -> bool {
        self.waiting.fetch_sub(1, SeqCst);
        // Whoever closes has the worker look the other way round.
        crosswise();
        self.is_closing.load(SeqCst)
    }

    /// The worker is to be told of it.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, SeqCst);
        crosswise();
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(SeqCst)
    }
}
