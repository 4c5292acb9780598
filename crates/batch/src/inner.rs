use std::sync::Arc;

use buttress_core::Rejectable;
use tower_service::Service;

use crate::{
    rules::Rules,
    shared::Shared,
    sync::{Mutex, PoisonError, spawn},
    worker::{Worker, work},
};

/// What all clones, handles, futures and workers of one batcher share.
pub(crate) struct Inner<S, Req, Res, E> {
    pub(crate) shared: Shared<Req, Res, E>,
    pub(crate) rules: Rules<Req, Res, E>,
    /// Never polled, only cloned. The lock is for that alone, so that the service need not be `Sync`.
    original: Mutex<S>,
}

impl<S, Req, Res, E> Inner<S, Req, Res, E> {
    pub(crate) fn new(service: S, rules: Rules<Req, Res, E>) -> Self {
        let shared = Shared::new(rules.origin, rules.limits);
        Self { shared, rules, original: Mutex::new(service) }
    }

    pub(crate) fn fresh(&self) -> S
    where
        S: Clone,
    {
        self.original.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins a worker, on the runtime of whoever calls this.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn begin(self: &Arc<Self>, number: u32)
    where
        S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
        S::Future: Send,
        Req: Send + 'static,
        Res: Send + 'static,
        E: Rejectable + Send + 'static,
    {
        // Where there is no runtime, it is dropped, and tells that it is gone.
        spawn(work(Worker::new(self.clone(), number)));
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
