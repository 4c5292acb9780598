//! The ledger's atomics: real ones, or loom's when the protocol is model-checked.

#[cfg(buttress_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, fence};
pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::atomic::{AtomicU64, fence};

/// On a cache line of its own, and on its neighbour, which processors fetch along.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct Padded<T>(pub(crate) T);
