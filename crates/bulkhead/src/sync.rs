//! The atomics: real ones, or loom's when the protocol is model-checked.

pub(crate) use std::sync::{
    PoisonError, TryLockError,
    atomic::Ordering::{Relaxed, SeqCst},
};

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize},
};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, AtomicUsize},
};

#[cfg(buttress_loom)]
pub(crate) use loom::sync::atomic::AtomicU32;
#[cfg(all(feature = "keyed", not(buttress_loom)))]
pub(crate) use std::sync::atomic::AtomicU32;

/// On a cache line of its own, and on its neighbour, which processors fetch along.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);

/// Stands between writing one word and reading another, both `SeqCst`, wherever two sides do so crosswise and at least
/// one must see the other's write.
///
/// The language promises that for `SeqCst` accesses alone, and so no instruction is needed here. loom takes them for
/// acquire and release, and knows the promise only of a fence.
#[inline(always)]
pub(crate) fn crosswise() {
    #[cfg(buttress_loom)]
    loom::sync::atomic::fence(SeqCst);
}

/// No user's code runs under the locks of this crate, but one that was held by a panicking thread is whole all the same.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Which stripe is this thread's.
#[cfg(not(buttress_loom))]
pub(crate) use buttress_core::thread_number;

#[cfg(buttress_loom)]
pub(crate) use self::numbered::*;

/// loom runs all its threads on one of the system's.
#[cfg(buttress_loom)]
mod numbered {
    use std::cell::Cell;

    loom::thread_local! {
        static NUMBER: Cell<usize> = Cell::new(0);
    }

    pub(crate) fn thread_number() -> usize {
        NUMBER.with(Cell::get)
    }

    pub(crate) fn set_thread_number(number: usize) {
        NUMBER.with(|cell| cell.set(number));
    }
}
