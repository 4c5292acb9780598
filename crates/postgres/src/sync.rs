//! What the protocols between threads are made of: the real things, or loom's when they are model-checked.

pub(crate) use std::sync::{PoisonError, atomic::Ordering};

#[cfg(all(test, buttress_loom))]
pub(crate) use buttress_testkit::models::{Notify, Semaphore};
#[cfg(all(test, buttress_loom))]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
#[cfg(all(test, buttress_loom, feature = "cache"))]
pub(crate) use loom::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(all(test, buttress_loom)))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU64, AtomicUsize},
};
#[cfg(all(not(all(test, buttress_loom)), feature = "cache"))]
pub(crate) use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
#[cfg(not(all(test, buttress_loom)))]
pub(crate) use tokio::sync::{Notify, Semaphore};
