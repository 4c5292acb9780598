use crate::sync::{
    Arc, AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};

/// Lets one at a time do something.
#[derive(Debug, Default)]
pub(crate) struct Turn(Arc<AtomicBool>);

impl Turn {
    /// None where it is another's.
    pub(crate) fn take(&self) -> Option<Taken> {
        // What the one before has done is seen by the next.
        self.0.compare_exchange(false, true, Acquire, Relaxed).ok()?;
        Some(Taken(Arc::clone(&self.0)))
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Dropped, in whatever way, it is the next one's turn.
#[derive(Debug)]
pub(crate) struct Taken(Arc<AtomicBool>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.store(false, Release);
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
