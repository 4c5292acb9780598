use std::fmt;

use buttress_core::ByError;
use tower_layer::Layer;

use crate::{Background, Cache, Cached, Foreground};

/// Puts a [`Cache`] before a service: made by [`Cache::layer`].
#[derive(Clone)]
pub struct CacheLayer<K, V, F, C = ByError, R = Background> {
    cache: Cache<K, V>,
    key: F,
    classify: C,
    refresh: R,
}

impl<K, V, F> CacheLayer<K, V, F> {
    pub(crate) const fn new(cache: Cache<K, V>, key: F) -> Self {
        Self { cache, key, classify: ByError, refresh: Background }
    }
}

impl<K, V, F, C, R> CacheLayer<K, V, F, C, R> {
    /// Which answers are failures: they are not kept, and an older value is served in their place where
    /// [`stale_if_error`](crate::CacheBuilder::stale_if_error) says so. By default those that are errors.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> CacheLayer<K, V, F, D, R> {
        CacheLayer { cache: self.cache, key: self.key, classify, refresh: self.refresh }
    }

    /// For services that are not `Send` and `'static`: values past their time are loaded anew by a caller.
    #[must_use]
    pub fn in_foreground(self) -> CacheLayer<K, V, F, C, Foreground> {
        CacheLayer { cache: self.cache, key: self.key, classify: self.classify, refresh: Foreground }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> Cache<K, V> {
        self.cache.clone()
    }
}

impl<S, K, V, F: Clone, C: Clone, R: Clone> Layer<S> for CacheLayer<K, V, F, C, R> {
    type Service = Cached<S, K, V, F, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        Cached::new(inner, self.cache.clone(), self.key.clone(), self.classify.clone(), self.refresh.clone())
    }
}

impl<K, V, F, C, R> fmt::Debug for CacheLayer<K, V, F, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer").field("cache", &self.cache).finish_non_exhaustive()
    }
}
