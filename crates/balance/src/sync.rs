//! The atomics of the protocols: real ones, or loom's when a protocol is model-checked.

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

#[cfg(buttress_loom)]
pub(crate) use loom::sync::atomic::AtomicU64;
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::atomic::AtomicU64;
