use std::{fmt, hash::Hash, sync::Arc, time::Duration};

use buttress_core::Origin;

use crate::{Cache, Store, clock, config::Config, inner::Inner, store::Invalidations, tier::Tier};

/// The knobs of a [`Cache`].
#[must_use = "it does nothing until it is built"]
pub struct CacheBuilder<K, V> {
    origin: Origin,
    config: Config<K, V>,
    tier: Option<Tier<K, V>>,
    attach: Option<Box<dyn FnOnce(Invalidations<K>) + Send>>,
}

impl<K, V> CacheBuilder<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(name: &str) -> Self {
        Self { origin: Origin::new("cache", name), config: Config::new(), tier: None, attach: None }
    }

    /// For how long a value is served. 60 s by default; [`Duration::MAX`] is for ever, zero keeps nothing.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.config.ttl = ttl;
        self
    }

    /// For how long this value is served, in place of [`ttl`](Self::ttl). `None` does not keep it. A value that says "there is
    /// none" may be given a shorter life than others.
    ///
    /// A panic in it harms the call that loaded; the next in line loads for itself.
    pub fn expiry(mut self, expiry: impl Fn(&K, &V) -> Option<Duration> + Send + Sync + 'static) -> Self {
        self.config.expiry = Some(Box::new(expiry));
        self
    }

    /// By which part of its life a value may end early, by chance, so that what was loaded together is not loaded anew
    /// together. From 0 to 1; 0.1 by default.
    pub fn jitter(mut self, part: f64) -> Self {
        self.config.jitter = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
        self
    }

    /// A value that nobody asks for so long is not served any more. Not limited by default.
    pub fn time_to_idle(mut self, idle: Duration) -> Self {
        self.config.idle = Some(clock::nanos(idle));
        self
    }

    /// For how long after its time a value is served while it is loaded anew, once at a time (RFC 5861). Such a load ends
    /// with this time at the latest; one that fails leaves the old value, and is tried again after a second. Zero by default.
    pub fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.config.revalidate = clock::nanos(window);
        self
    }

    /// For how long after its time a value is served when loading it anew fails (RFC 5861), be it that a breaker, a limiter or
    /// a timeout inside refuses. Zero by default.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.config.on_error = clock::nanos(window);
        self
    }

    /// What all values may weigh together. 10,000 by default, which is as many values where there is no
    /// [`weigher`](Self::weigher).
    pub fn max_weight(mut self, weight: u64) -> Self {
        self.config.max_weight = weight;
        self
    }

    /// What a value weighs: one by default. In bytes, for example: count a hundred for each value beside its own.
    pub fn weigher(mut self, weigher: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.config.weigher = Some(Box::new(weigher));
        self
    }

    /// By what a value can be invalidated beside its key: by [`Cache::invalidate_tag`].
    pub fn tags(mut self, tags: impl Fn(&K, &V) -> Vec<String> + Send + Sync + 'static) -> Self {
        self.config.tags = Some(Box::new(tags));
        self
    }

    /// A second tier behind the memory of this process, which several processes share.
    pub fn store<St: Store<K, V>>(mut self, store: St) -> Self {
        let store = Arc::new(store);
        self.tier = Some(Tier::new(store.clone()));
        self.attach = Some(Box::new(move |invalidations| store.attach(invalidations)));
        self
    }

    /// Builds it.
    #[must_use]
    pub fn build(self) -> Cache<K, V> {
        Cache::from_inner(Inner::new(self.origin, self.config, self.tier), self.attach)
    }
}

impl<K, V> fmt::Debug for CacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheBuilder").field("origin", &self.origin).finish_non_exhaustive()
    }
}
