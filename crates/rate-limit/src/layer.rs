use std::{hash::Hash, sync::Arc, time::Duration};

use buttress_core::Origin;
use tower_layer::Layer;

use crate::{
    ByKey, Everybody, KeyedRateLimiter, Limit, One, RateLimit, RateLimiter, Reject, Wait, inner::Inner,
};

/// Puts rate limits before a service. All services that one layer makes, and their clones, share them.
///
/// See the [crate's documentation](crate).
#[derive(Debug, Clone)]
pub struct RateLimitLayer<Q = Reject, W = One> {
    limiter: RateLimiter,
    when_limited: Q,
    weigh: W,
}

impl RateLimitLayer {
    /// A limit of that name, which refuses at once what is above it. A [`Rate`](crate::Rate) is a limit: a sliding window.
    #[must_use]
    pub fn new(name: &str, limit: impl Into<Limit>) -> Self {
        Self::builder(name, limit).build()
    }

    /// A limit of that name, to be changed.
    pub fn builder(name: &str, limit: impl Into<Limit>) -> Builder {
        Builder {
            origin: Origin::new("rate-limit", name),
            limits: vec![limit.into()],
            when_limited: Reject,
            weigh: One,
        }
    }
}

impl<Q, W> RateLimitLayer<Q, W> {
    /// The handle of the limits.
    #[must_use]
    pub fn limiter(&self) -> RateLimiter {
        self.limiter.clone()
    }

    /// A layer of the same limits, whose calls wait for so long at most: see [`Builder::wait`]. Those of this one do as they did.
    #[must_use]
    pub fn wait(self, longest: Duration) -> RateLimitLayer<Wait, W> {
        let Self { limiter, weigh, .. } = self;
        RateLimitLayer { limiter, when_limited: Wait(longest), weigh }
    }
}

impl<S, Q: Clone, W: Clone> Layer<S> for RateLimitLayer<Q, W> {
    type Service = RateLimit<S, Q, W>;

    fn layer(&self, inner: S) -> Self::Service {
        let limits = Arc::clone(&self.limiter.0);
        RateLimit::new(inner, limits, self.when_limited.clone(), self.weigh.clone(), Everybody)
    }
}

/// The settings of rate limits. Every value is valid by construction, so [`build`](Self::build) cannot fail.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder<Q = Reject, W = One> {
    origin: Origin,
    limits: Vec<Limit>,
    when_limited: Q,
    weigh: W,
}

impl<Q, W> Builder<Q, W> {
    /// One more limit, which holds at the same time: 10 a second, and 1,000 an hour. A call takes its units from all of
    /// them, or from none.
    pub fn and(mut self, limit: impl Into<Limit>) -> Self {
        self.limits.push(limit.into());
        self
    }

    /// Lets calls wait for their units, first come, first served, for so long at most. A call whose wait would be longer, or
    /// would end after its [`Deadline`](buttress_core::Deadline), is refused at once. The service inside must be `Clone`.
    /// Default: calls are refused.
    pub fn wait(self, longest: Duration) -> Builder<Wait, W> {
        let Self { origin, limits, weigh, .. } = self;
        Builder { origin, limits, when_limited: Wait(longest), weigh }
    }

    /// Takes from the request how many units it is: any `Fn(&Req) -> u32`. Default: one.
    pub fn weight<V>(self, weigh: V) -> Builder<Q, V> {
        let Self { origin, limits, when_limited, .. } = self;
        Builder { origin, limits, when_limited, weigh }
    }

    /// Makes the limits those of each key of the requests, such as the client's address.
    ///
    /// The function is called for each request. What it returns is hashed and not kept.
    pub fn keyed<Req, K: Hash, F: Fn(&Req) -> K>(self, key: F) -> KeyedBuilder<F, Q, W> {
        let Self { origin, limits, when_limited, weigh } = self;
        KeyedBuilder { origin, whole: Vec::new(), each: limits, capacity: 65_536, when_limited, weigh, key }
    }

    /// The layer, with limits of its own.
    #[must_use]
    pub fn build(self) -> RateLimitLayer<Q, W> {
        let Self { origin, limits, when_limited, weigh } = self;
        let limiter = RateLimiter(Arc::new(Inner::new(origin, &limits, &[], 0)));
        RateLimitLayer { limiter, when_limited, weigh }
    }

    /// A layer that gives each service that it makes limits of its own. They share the name and its count of rejections.
    pub const fn per_service(self) -> PerService<Q, W> {
        PerService(self)
    }
}

/// A layer whose services do not share their limits: made by [`Builder::per_service`].
#[derive(Debug, Clone)]
pub struct PerService<Q = Reject, W = One>(Builder<Q, W>);

impl<S, Q: Clone, W: Clone> Layer<S> for PerService<Q, W> {
    type Service = RateLimit<S, Q, W>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.clone().build().layer(inner)
    }
}

/// The settings of limits for each key: made by [`Builder::keyed`].
#[derive(Debug, Clone)]
#[must_use]
pub struct KeyedBuilder<F, Q = Reject, W = One> {
    origin: Origin,
    whole: Vec<Limit>,
    each: Vec<Limit>,
    capacity: usize,
    when_limited: Q,
    weigh: W,
    key: F,
}

impl<F, Q, W> KeyedBuilder<F, Q, W> {
    /// A limit of all keys together, besides those of each.
    pub fn overall(mut self, limit: impl Into<Limit>) -> Self {
        self.whole.push(limit.into());
        self
    }

    /// For how many keys that are active at the same time there is room. Default: 65,536, in 3 MB. A key is active while its
    /// units have not come back. Further ones share limits: see the [crate's documentation](crate). Where there is not so much
    /// memory, [`build`](Self::build) ends as any allocation that fails.
    pub const fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys;
        self
    }

    /// The layer, with limits of its own. The memory of all keys is taken here.
    #[must_use]
    pub fn build(self) -> KeyedLayer<F, Q, W> {
        let Self { origin, whole, each, capacity, when_limited, weigh, key } = self;
        let limiter = KeyedRateLimiter(Arc::new(Inner::new(origin, &whole, &each, capacity)));
        KeyedLayer { limiter, when_limited, weigh, key }
    }
}

/// Puts rate limits of each key before a service: made by [`KeyedBuilder::build`]. All services that one layer makes, and
/// their clones, share them.
#[derive(Debug, Clone)]
pub struct KeyedLayer<F, Q = Reject, W = One> {
    limiter: KeyedRateLimiter,
    when_limited: Q,
    weigh: W,
    key: F,
}

impl<F, Q, W> KeyedLayer<F, Q, W> {
    /// The handle of the limits.
    #[must_use]
    pub fn limiter(&self) -> KeyedRateLimiter {
        self.limiter.clone()
    }
}

impl<S, F: Clone, Q: Clone, W: Clone> Layer<S> for KeyedLayer<F, Q, W> {
    type Service = RateLimit<S, Q, W, ByKey<F>>;

    fn layer(&self, inner: S) -> Self::Service {
        let limits = Arc::clone(&self.limiter.0);
        RateLimit::new(inner, limits, self.when_limited.clone(), self.weigh.clone(), ByKey(self.key.clone()))
    }
}
