use tower_layer::Layer;

use crate::{HttpCache, HttpCached};

/// Puts an [`HttpCache`] before a service: made by [`HttpCache::layer`].
#[derive(Debug, Clone)]
pub struct HttpCacheLayer {
    cache: HttpCache,
}

impl HttpCacheLayer {
    pub(crate) const fn new(cache: HttpCache) -> Self {
        Self { cache }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> HttpCache {
        self.cache.clone()
    }
}

impl<S> Layer<S> for HttpCacheLayer {
    type Service = HttpCached<S>;

    fn layer(&self, inner: S) -> HttpCached<S> {
        HttpCached::new(inner, self.cache.clone())
    }
}
