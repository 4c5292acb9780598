//! Locks and atomics: real ones, or loom's when the protocol is model-checked.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard, RwLock, atomic::AtomicU64};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, atomic::AtomicU64};
pub(crate) use std::sync::{
    PoisonError,
    atomic::Ordering::{Acquire, Relaxed, Release},
};

/// Locks also what a panic left locked: whoever uses it changes nothing before the last thing that may panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
