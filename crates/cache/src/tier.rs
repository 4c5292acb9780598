//! The store behind the memory, without its type.

use std::{
    any::Any,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use buttress_core::{BoxError, Origin};

use crate::{
    clock,
    stats::{Counters, count},
    store::{Entry, Store, Stored, Want},
};

pub(crate) type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(crate) type AnyLease = Box<dyn Any + Send>;

/// For how long a store that failed is left alone, in nanoseconds: else each miss would wait for its time limit.
const REST: u64 = 1_000_000_000;

pub(crate) struct Tier<K, V> {
    store: Box<dyn Erased<K, V>>,
    rests_until: AtomicU64,
}

impl<K: Clone + Send + Sync + 'static, V: Send + Sync + 'static> Tier<K, V> {
    pub(crate) fn new<St: Store<K, V>>(store: Arc<St>) -> Self {
        Self { store: Box::new(Shared(store)), rests_until: AtomicU64::new(0) }
    }

    pub(crate) fn rests(&self) -> bool {
        let until = self.rests_until.load(Relaxed);
        until != 0 && clock::now() < until
    }

    /// Counts it, and leaves the store alone for a while.
    pub(crate) fn failed(&self, counters: &Counters, origin: Origin, error: &BoxError) {
        count(&counters.store_errors);
        if !self.rests() {
            tracing::warn!(cache = origin.name(), %error, "the store is left alone for a second");
        }
        self.rests_until.store(clock::now() + REST, Relaxed);
    }

    pub(crate) fn store(&self) -> &dyn Erased<K, V> {
        &*self.store
    }
}

pub(crate) trait Erased<K, V>: Send + Sync {
    fn enter(&self, key: K, want: Want) -> Boxed<Result<Entry<V, AnyLease>, BoxError>>;
    fn fill(&self, lease: AnyLease, key: K, stored: Stored<V>) -> Boxed<Result<(), BoxError>>;
    fn put(&self, key: K, stored: Stored<V>) -> Boxed<Result<(), BoxError>>;
    fn remove(&self, key: K) -> Boxed<Result<(), BoxError>>;
    fn remove_tag(&self, tag: String) -> Boxed<Result<(), BoxError>>;
    fn clear(&self) -> Boxed<Result<(), BoxError>>;
}

struct Shared<St>(Arc<St>);

impl<St, K, V> Erased<K, V> for Shared<St>
where
    St: Store<K, V>,
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    fn enter(&self, key: K, want: Want) -> Boxed<Result<Entry<V, AnyLease>, BoxError>> {
        let store = self.0.clone();
        Box::pin(async move {
            Ok(match store.enter(&key, want).await? {
                Entry::Found(stored) => Entry::Found(stored),
                Entry::Vacant(lease) => Entry::Vacant(Box::new(lease) as AnyLease),
            })
        })
    }

    fn fill(&self, lease: AnyLease, key: K, stored: Stored<V>) -> Boxed<Result<(), BoxError>> {
        let store = self.0.clone();
        let lease = lease.downcast::<St::Lease>().expect("a lease comes back to the store that gave it");
        Box::pin(async move { store.fill(*lease, &key, &stored).await })
    }

    fn put(&self, key: K, stored: Stored<V>) -> Boxed<Result<(), BoxError>> {
        let store = self.0.clone();
        Box::pin(async move { store.put(&key, &stored).await })
    }

    fn remove(&self, key: K) -> Boxed<Result<(), BoxError>> {
        let store = self.0.clone();
        Box::pin(async move { store.remove(&key).await })
    }

    fn remove_tag(&self, tag: String) -> Boxed<Result<(), BoxError>> {
        let store = self.0.clone();
        Box::pin(async move { store.remove_tag(&tag).await })
    }

    fn clear(&self) -> Boxed<Result<(), BoxError>> {
        let store = self.0.clone();
        Box::pin(async move { store.clear().await })
    }
}
