use std::{
    fmt,
    future::{Future, poll_fn},
    hash::Hash,
    pin::pin,
    sync::{Arc, Weak},
    task::{Context, Poll},
};

use buttress_core::{
    BoxError, ByError, Metric, Observe, Origin, Rejectable, Setting, UnknownAction, WeakObserve,
};
use tower_service::Service;

use crate::{
    CacheBuilder, CacheLayer, ResponseFuture, Stats,
    inner::Inner,
    service::{Way, find},
    stats::count,
    store::{Forget, Invalidations},
};

/// A cache, and the handle to it: clones share it.
pub struct Cache<K, V> {
    pub(crate) inner: Arc<Inner<K, V>>,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache with the default of every knob.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::builder(name).build()
    }

    /// Builds one with knobs of your own. The name stands in errors and metrics.
    pub fn builder(name: &str) -> CacheBuilder<K, V> {
        CacheBuilder::new(name)
    }

    pub(crate) fn from_inner(inner: Inner<K, V>, attach: Option<impl FnOnce(Invalidations<K>)>) -> Self {
        let inner = Arc::new(inner);
        if let Some(attach) = attach {
            let memory: Arc<dyn Forget<K>> = inner.clone();
            let memory: Weak<dyn Forget<K>> = Arc::downgrade(&memory);
            attach(Invalidations::new(memory));
        }
        Self { inner }
    }

    /// The layer that puts this cache before a service. `key` tells the key of a request; one without a key goes past the
    /// cache.
    ///
    /// Whatever the answer depends on must be in the key: who asks, for example.
    pub fn layer<Req, F: Fn(&Req) -> Option<K>>(&self, key: F) -> CacheLayer<K, V, F> {
        CacheLayer::new(self.clone(), key)
    }

    /// A fresh value in this process's memory. It counts as a hit; nothing counts as a miss.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<V> {
        self.inner.fresh(key)
    }

    /// The value of a key. Where there is none, `load` brings it: for all who ask for it meanwhile.
    ///
    /// A value past its time, which [`stale_while_revalidate`](CacheBuilder::stale_while_revalidate) allows to be served, is
    /// loaded anew by one caller, who waits for it; the others get the old one. Dropped while it loads, the next caller in
    /// line begins with a `load` of his own.
    ///
    /// # Errors
    /// What `load` fails with; for a caller who waited for another's load, a rejection: the one which that ended with, or
    /// [`LoadFailed`](buttress_core::Reason::LoadFailed). Past his [`Deadline`](buttress_core::Deadline),
    /// [`DeadlineExceeded`](buttress_core::Reason::DeadlineExceeded).
    pub async fn get_or_load<E, L, F>(&self, key: K, load: L) -> Result<V, E>
    where
        E: Rejectable,
        L: FnOnce() -> F,
        F: Future<Output = Result<V, E>>,
    {
        let inner = &self.inner;
        if let Some(value) = inner.fresh(&key) {
            return Ok(value);
        }
        let once = Once(Some(load));
        let future = match find(inner, &key) {
            Way::Stale(value) => return Ok(value),
            Way::Refresh(_, lead) => ResponseFuture::lead(lead, key, once, (), ByError, true),
            Way::Lead(lead) => ResponseFuture::lead(lead, key, once, (), ByError, false),
            Way::Follow(follower) => ResponseFuture::follow(inner, key, follower, once, (), ByError),
        };
        let mut future = pin!(future);
        poll_fn(|cx| future.as_mut().poll(cx)).await
    }

    /// Keeps a value as if it had been loaded now. A load on its way does not overwrite it; who asks for the key meanwhile gets
    /// it, too.
    ///
    /// # Errors
    /// When the store fails. This process has it in any case.
    pub async fn insert(&self, key: K, value: V) -> Result<(), BoxError> {
        let inner = &self.inner;
        // A flight like that of a load: what is written or invalidated before it has landed is known then.
        let leader = inner.flights.lead(&key);
        let epoch = inner.tags.epoch();
        let Some(mut judged) = inner.judge(&key, &value, epoch) else {
            drop(leader);
            return self.invalidate(&key).await;
        };
        let result = match (&inner.tier, judged.stored.take()) {
            (Some(tier), Some(stored)) => tier.store().put(key.clone(), stored).await,
            _ => Ok(()),
        };
        if !leader.land_with(judged.brought(epoch), || inner.keep(&key, judged)) && inner.tier.is_some() {
            // Which of the two the store took last is not known.
            inner.forget(&key);
        }
        self.told(result)
    }

    /// Counts what the store failed at.
    fn told(&self, result: Result<(), BoxError>) -> Result<(), BoxError> {
        if result.is_err() {
            count(&self.inner.counters.store_errors);
        }
        result
    }

    /// Forgets a key. What is being loaded at this moment is not kept.
    ///
    /// # Errors
    /// When the store fails: other processes may have the old value until its time ends. This one forgot it in any case.
    pub async fn invalidate(&self, key: &K) -> Result<(), BoxError> {
        self.inner.forget(key);
        let Some(tier) = &self.inner.tier else { return Ok(()) };
        let removed = tier.store().remove(key.clone()).await;
        // Somebody may have read it from the store before that.
        self.inner.forget(key);
        self.told(removed)
    }

    /// Forgets every key whose value has this tag. What is being loaded at this moment, and turns out to have it, is not
    /// kept.
    ///
    /// # Errors
    /// When the store fails: other processes may have the old values until their time ends. This one forgot them in any
    /// case.
    pub async fn invalidate_tag(&self, tag: &str) -> Result<(), BoxError> {
        self.inner.forget_tag(tag);
        let Some(tier) = &self.inner.tier else { return Ok(()) };
        let removed = tier.store().remove_tag(tag.to_owned()).await;
        self.inner.forget_tag(tag);
        self.told(removed)
    }

    /// Forgets everything. What is being loaded at this moment is not kept.
    ///
    /// # Errors
    /// When the store fails: other processes may have the old values until their time ends. This one forgot them in any
    /// case.
    pub async fn clear(&self) -> Result<(), BoxError> {
        self.inner.forget_all();
        let Some(tier) = &self.inner.tier else { return Ok(()) };
        let cleared = tier.store().clear().await;
        self.inner.forget_all();
        self.told(cleared)
    }

    /// The figures since it was built.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }
}

impl<K, V> Observe for Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn origin(&self) -> Origin {
        self.inner.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.inner, |inner| Self { inner })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        self.stats().observe(visit);
        self.inner.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.inner.config.settings(self.inner.tier.is_some(), visit);
    }

    /// `clear`; where there is a store, which takes time to be cleared, `clear_memory`: of this process alone.
    fn actions(&self) -> &'static [&'static str] {
        if self.inner.tier.is_some() { &["clear_memory"] } else { &["clear"] }
    }

    fn act(&self, action: &str) -> Result<(), UnknownAction> {
        if !self.actions().contains(&action) {
            return Err(UnknownAction);
        }
        self.inner.forget_all();
        Ok(())
    }
}

impl<K, V> Clone for Cache<K, V> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K, V> fmt::Debug for Cache<K, V> {
    /// Shows no key and no value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("origin", &self.inner.origin).finish_non_exhaustive()
    }
}

/// A function that is called once, as a service.
struct Once<L>(Option<L>);

impl<L, F, V, E> Service<()> for Once<L>
where
    L: FnOnce() -> F,
    F: Future<Output = Result<V, E>>,
{
    type Response = V;
    type Error = E;
    type Future = F;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> F {
        (self.0.take().expect("a load is called once"))()
    }
}
