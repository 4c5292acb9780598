//! Up to when something is wanted, noted by many for one who sleeps.

use std::task::Waker;

use crate::sync::{AtomicWaker, Mutex, PoisonError};

pub(crate) struct Due<T> {
    until: Mutex<Option<T>>,
    waker: AtomicWaker,
}

impl<T: Ord + Copy> Due<T> {
    pub(crate) fn new() -> Self {
        Self { until: Mutex::new(None), waker: AtomicWaker::new() }
    }

    /// The latest counts.
    pub(crate) fn note(&self, until: T) {
        {
            let mut noted = self.until.lock().unwrap_or_else(PoisonError::into_inner);
            *noted = (*noted).max(Some(until));
        }
        self.waker.wake();
    }

    /// Whom a note wakes. He looks for one after this.
    pub(crate) fn wake(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn take(&self) -> Option<T> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
