//! Atomics and locks: loom's while a model is checked.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, atomic::AtomicU64};
use std::sync::PoisonError;
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU64};

/// No user code runs under our locks, and what they guard is whole at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
