use std::{future::Future, hash::Hash, sync::Arc, time::Duration};

use buttress_core::{Classify, Rejectable};
use tokio::{runtime::Handle, time::timeout};
use tower_service::Service;

use crate::{inner::Inner, lead::Lead, load::Load, stats::count};

/// How a value that is past its time is loaded anew: [`Background`] or [`Foreground`].
pub trait Refresh<S, Req, K: Hash + Eq, V, C>: sealed::Refresh<S, Req, K, V, C> {}

/// In a task of its own, which needs the service and its requests to be `Send` and `'static`. Every caller gets the old value
/// meanwhile. Outside of a tokio runtime it is as [`Foreground`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Background;

/// By the caller who finds it past its time, and who waits for that. The others get the old value meanwhile.
#[derive(Debug, Clone, Copy, Default)]
pub struct Foreground;

/// A refresh that could not be left to a task: the caller does it.
pub(crate) struct Begun<S, Req, K: Hash + Eq, V>(pub(crate) Lead<K, V>, pub(crate) S, pub(crate) Req);

pub(crate) mod sealed {
    use super::*;

    pub trait Refresh<S, Req, K: Hash + Eq, V, C> {
        #[doc(hidden)]
        #[expect(private_interfaces, reason = "sealed")]
        fn refresh(&self, key: &K, begun: Begun<S, Req, K, V>, classify: C) -> Option<Begun<S, Req, K, V>>;
    }
}

impl<S, Req, K: Hash + Eq, V, C, R: sealed::Refresh<S, Req, K, V, C>> Refresh<S, Req, K, V, C> for R {}

impl<S, Req, K: Hash + Eq, V, C> sealed::Refresh<S, Req, K, V, C> for Foreground {
    #[expect(private_interfaces, reason = "sealed")]
    fn refresh(&self, _: &K, begun: Begun<S, Req, K, V>, _: C) -> Option<Begun<S, Req, K, V>> {
        Some(begun)
    }
}

impl<S, Req, K, V, C> sealed::Refresh<S, Req, K, V, C> for Background
where
    S: Service<Req, Response = V> + Send + 'static,
    S::Future: Send,
    S::Error: Rejectable + Send,
    Req: Send + 'static,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    C: Classify<V, S::Error> + Send + 'static,
{
    #[expect(private_interfaces, reason = "sealed")]
    fn refresh(
        &self,
        key: &K,
        Begun(lead, service, request): Begun<S, Req, K, V>,
        classify: C,
    ) -> Option<Begun<S, Req, K, V>> {
        let Ok(runtime) = Handle::try_current() else { return Some(Begun(lead, service, request)) };
        let inner = lead.cache().clone();
        count(&inner.counters.refreshes);
        // As long as the old value may be served. One that hangs would keep all others from loading.
        let limit = Duration::from_nanos(inner.config.revalidate);
        let rests = (inner, key.clone());
        let load = Load::new(lead, key.clone(), service, request, classify, true);
        runtime.spawn(guarded(load, limit, rests));
        None
    }
}

/// A refresh that panics or takes too long counts as failed, so that the next is not tried at once.
async fn guarded<L: Future, K, V>(load: L, limit: Duration, (inner, key): (Arc<Inner<K, V>>, K))
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    struct Unless<F: FnMut()>(F, bool);
    impl<F: FnMut()> Drop for Unless<F> {
        fn drop(&mut self) {
            if !self.1 {
                (self.0)();
            }
        }
    }
    let mut unless = Unless(|| inner.rest(&key), false);
    unless.1 = timeout(limit, load).await.is_ok();
}
