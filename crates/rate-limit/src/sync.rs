//! Atomics and locks: loom's while a model is checked.

#[cfg(all(buttress_loom, feature = "cluster"))]
pub(crate) use loom::sync::atomic::AtomicBool;
#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, fence},
};
use std::sync::PoisonError;
#[cfg(all(not(buttress_loom), feature = "cluster"))]
pub(crate) use std::sync::atomic::AtomicBool;
pub(crate) use std::sync::atomic::Ordering::{Relaxed, SeqCst};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize, fence},
};

/// Stands between writing one word and reading another, both `SeqCst`, wherever two sides do so crosswise and at least
/// one must see the other's write.
///
/// The language promises that for `SeqCst` accesses alone, and so no instruction is needed here. loom takes them for
/// acquire and release, and knows the promise only of a fence.
#[cfg(feature = "cluster")]
#[inline(always)]
pub(crate) fn crosswise() {
    #[cfg(buttress_loom)]
    fence(SeqCst);
}

/// No user code runs under our locks, and what they guard is whole at every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
