//! What the protocol between callers and workers is made of: the real things, or loom's when it is model-checked.

use std::future::Future;
pub(crate) use std::sync::PoisonError;

#[cfg(all(test, buttress_loom))]
pub(crate) use buttress_testkit::models::Notify;
#[cfg(all(test, buttress_loom))]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(all(test, buttress_loom)))]
pub(crate) use std::sync::{Mutex, MutexGuard};
#[cfg(not(all(test, buttress_loom)))]
pub(crate) use tokio::sync::Notify;

/// # Panics
/// Outside of a tokio runtime.
#[cfg(not(all(test, buttress_loom)))]
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// A task is a thread in a model.
#[cfg(all(test, buttress_loom))]
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    loom::thread::spawn(|| loom::future::block_on(task));
}
