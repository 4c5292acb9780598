use std::{fmt, future::Future, sync::Weak, time::Duration};

use buttress_core::BoxError;

/// A value with what is left of its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<V> {
    /// The value.
    pub value: V,
    /// For how long it may still be served as fresh. Zero: it is stale.
    pub fresh_for: Duration,
    /// For how long after that it is worth keeping: it may be served while it is loaded anew, or when that fails.
    pub stale_for: Duration,
    /// What it can be invalidated by, beside its key.
    pub tags: Vec<String>,
}

/// What a call needs of a [`Store`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Whatever is there, stale or fresh.
    Any,
    /// A fresh value: a stale one counts as none, since it is being loaded anew.
    Fresh,
}

/// What a [`Store`] says to a call.
#[derive(Debug)]
pub enum Entry<V, L> {
    /// The value.
    Found(Stored<V>),
    /// There is none, and the caller is the one who loads it: of all processes, for as long as his lease lasts.
    Vacant(L),
}

/// A second tier, behind the memory of each process and shared by them.
///
/// An error counts as "nothing there": the cache loads without the store, and leaves it alone for a while. What cannot be
/// decoded is no error: it is [`Vacant`](Entry::Vacant), and the store counts it.
///
/// Every method may be dropped at any point.
pub trait Store<K, V>: Send + Sync + 'static {
    /// The right to load a key, among all processes. It ends when it is handed to [`fill`](Self::fill), when it is
    /// dropped (then the next one in line may load, soon), or by itself after some time, if its holder died.
    type Lease: Send + 'static;

    /// Looks a key up. Where there is no such value, it becomes the caller's to load; where another process is at it
    /// already, waits for what that one finds, until its lease ends at most.
    fn enter(
        &self,
        key: &K,
        want: Want,
    ) -> impl Future<Output = Result<Entry<V, Self::Lease>, BoxError>> + Send;

    /// Stores what was loaded. Where the key, or one of the tags, was invalidated since the lease began, nothing is stored.
    fn fill(
        &self,
        lease: Self::Lease,
        key: &K,
        stored: &Stored<V>,
    ) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Stores a value that was not loaded by a lease.
    fn put(&self, key: &K, stored: &Stored<V>) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Invalidates a key, in all processes.
    fn remove(&self, key: &K) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Invalidates whatever has this tag, in all processes.
    fn remove_tag(&self, tag: &str) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Invalidates everything, in all processes.
    fn clear(&self) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Called once, when a cache is built on this store: from now on it tells there what other processes invalidated. When
    /// it may have missed something, it says [`all`](Invalidations::all).
    fn attach(&self, invalidations: Invalidations<K>);
}

/// Where a [`Store`] tells the memory before it what is no longer true. It does not keep the cache alive.
pub struct Invalidations<K>(Weak<dyn Forget<K>>);

impl<K> Invalidations<K> {
    pub(crate) fn new(memory: Weak<dyn Forget<K>>) -> Self {
        Self(memory)
    }

    /// This key has another value now, or none.
    pub fn key(&self, key: &K) {
        if let Some(memory) = self.0.upgrade() {
            memory.forget(key);
        }
    }

    /// Whatever has this tag.
    pub fn tag(&self, tag: &str) {
        if let Some(memory) = self.0.upgrade() {
            memory.forget_tag(tag);
        }
    }

    /// Everything: the connection that would have told was lost, for example.
    pub fn all(&self) {
        if let Some(memory) = self.0.upgrade() {
            memory.forget_all();
        }
    }

    /// Whether the cache is gone, so that nobody listens any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl<K> Clone for Invalidations<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> fmt::Debug for Invalidations<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidations").field("is_closed", &self.is_closed()).finish()
    }
}

/// The memory of a process, as its store sees it.
pub(crate) trait Forget<K>: Send + Sync {
    fn forget(&self, key: &K);
    fn forget_tag(&self, tag: &str);
    fn forget_all(&self);
}
