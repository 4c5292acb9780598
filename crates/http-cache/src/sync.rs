//! The locks: real ones, or loom's when the protocol is model-checked.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU64};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};
pub(crate) use std::sync::{PoisonError, atomic::Ordering::Relaxed};

/// Locks also what a panic left locked: nothing that is done under a lock leaves it half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
