//! The atomics: real ones, or loom's when this crate's own protocols are model-checked. What other crates model has none of
//! these in it.

pub(crate) use std::sync::atomic::Ordering::Relaxed;

#[cfg(all(test, buttress_loom))]
pub(crate) use loom::sync::atomic::AtomicU64;
#[cfg(not(all(test, buttress_loom)))]
pub(crate) use std::sync::atomic::AtomicU64;
