//! What the protocols between threads are made of: the real things, or loom's when they are model-checked.

pub(crate) use std::sync::{PoisonError, atomic::Ordering};

#[cfg(all(test, buttress_loom, feature = "cache"))]
pub(crate) use buttress_testkit::models::Notify;
#[cfg(all(test, buttress_loom))]
pub(crate) use loom::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize},
};
#[cfg(all(test, buttress_loom, feature = "cache"))]
pub(crate) use loom::sync::{MutexGuard, atomic::AtomicU64};
#[cfg(not(all(test, buttress_loom)))]
pub(crate) use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicUsize},
};
#[cfg(all(not(all(test, buttress_loom)), feature = "cache"))]
pub(crate) use std::sync::{MutexGuard, atomic::AtomicU64};
#[cfg(all(not(all(test, buttress_loom)), feature = "cache"))]
pub(crate) use tokio::sync::Notify;
