//! What was left by some, for whoever comes next.

use crate::sync::{Arc, AtomicBool, Mutex, PoisonError, SeqCst};

pub(crate) struct Left<T> {
    /// Shared with whoever looks at it for every call.
    pub(crate) are_there: Arc<AtomicBool>,
    things: Mutex<Vec<T>>,
}

impl<T> Default for Left<T> {
    fn default() -> Self {
        Self { are_there: Arc::new(AtomicBool::new(false)), things: Mutex::new(Vec::new()) }
    }
}

impl<T> Left<T> {
    /// Whether there may be anything.
    pub(crate) fn may_be_there(&self) -> bool {
        self.are_there.load(SeqCst)
    }

    pub(crate) fn leave(&self, thing: T) {
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        things.push(thing);
        self.are_there.store(true, SeqCst);
    }

    pub(crate) fn take(&self) -> Vec<T> {
        let mut things = self.things.lock().unwrap_or_else(PoisonError::into_inner);
        self.are_there.store(false, SeqCst);
        std::mem::take(&mut *things)
    }
}
