//! The estimator's atomics: real ones, or loom's when the protocol is model-checked.

pub(crate) use std::sync::{
    TryLockError,
    atomic::Ordering::{Acquire, Relaxed, Release},
};

#[cfg(buttress_loom)]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, AtomicUsize},
};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicU32, AtomicU64, AtomicUsize},
};

/// On a cache line of its own, and on its neighbour, which processors fetch along.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);
