use std::time::Duration;

use buttress_core::{Backoff, ByError, Origin};
use tower_layer::Layer;

use crate::{
    Breaker, CircuitBreaker, probes::Probes, ramp::Ramp, settings::Settings, throttle::Throttle, trip::Trip,
};

/// Puts a circuit breaker before a service. All services that one layer makes, and their clones, share one breaker.
///
/// See the [crate's documentation](crate).
#[derive(Debug, Clone)]
pub struct CircuitBreakerLayer<C = ByError> {
    breaker: Breaker,
    classify: C,
}

impl CircuitBreakerLayer {
    /// A breaker of that name with the defaults.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::builder(name).build()
    }

    /// A breaker of that name, to be changed.
    #[must_use]
    pub fn builder(name: &str) -> Builder {
        Builder {
            origin: Origin::new("circuit-breaker", name),
            settings: Settings::default(),
            classify: ByError,
        }
    }
}

impl<C> CircuitBreakerLayer<C> {
    /// The handle of the breaker.
    #[must_use]
    pub fn breaker(&self) -> Breaker {
        self.breaker.clone()
    }
}

impl<S, C: Clone> Layer<S> for CircuitBreakerLayer<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreaker::new(inner, self.breaker.clone(), self.classify.clone())
    }
}

/// The settings of a breaker. Every value is valid by construction, so [`build`](Self::build) cannot fail.
#[derive(Debug, Clone)]
pub struct Builder<C = ByError> {
    origin: Origin,
    settings: Settings,
    classify: C,
}

impl<C> Builder<C> {
    /// All settings at once, instead of one by one.
    #[must_use]
    pub const fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// See [`Settings::trip`].
    #[must_use]
    pub const fn trip(self, trip: Trip) -> Self {
        let settings = self.settings.trip(trip);
        self.settings(settings)
    }

    /// See [`Settings::throttle`].
    #[must_use]
    pub const fn throttle(self, throttle: Throttle) -> Self {
        let settings = self.settings.throttle(throttle);
        self.settings(settings)
    }

    /// See [`Settings::open_for`].
    #[must_use]
    pub const fn open_for(self, backoff: Backoff) -> Self {
        let settings = self.settings.open_for(backoff);
        self.settings(settings)
    }

    /// See [`Settings::probes`].
    #[must_use]
    pub const fn probes(self, probes: Probes) -> Self {
        let settings = self.settings.probes(probes);
        self.settings(settings)
    }

    /// See [`Settings::ramp`].
    #[must_use]
    pub const fn ramp(self, ramp: Ramp) -> Self {
        let settings = self.settings.ramp(ramp);
        self.settings(settings)
    }

    /// See [`Settings::slow_call`].
    #[must_use]
    pub const fn slow_call(self, duration: Duration) -> Self {
        let settings = self.settings.slow_call(duration);
        self.settings(settings)
    }

    /// See [`Settings::ignore_dropped`].
    #[must_use]
    pub const fn ignore_dropped(self) -> Self {
        let settings = self.settings.ignore_dropped();
        self.settings(settings)
    }

    /// See [`Settings::obey_throttling`].
    #[must_use]
    pub const fn obey_throttling(self) -> Self {
        let settings = self.settings.obey_throttling();
        self.settings(settings)
    }

    /// See [`Settings::shadow`].
    #[must_use]
    pub const fn shadow(self, candidate: Trip) -> Self {
        let settings = self.settings.shadow(candidate);
        self.settings(settings)
    }

    /// Judges results by this classifier. Default: [`ByError`]. It is cloned for every call: one that holds something
    /// large should hold an `Arc` of it.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> Builder<D> {
        Builder { origin: self.origin, settings: self.settings, classify }
    }

    /// The layer, with a breaker of its own.
    #[must_use]
    pub fn build(self) -> CircuitBreakerLayer<C> {
        CircuitBreakerLayer { breaker: Breaker::new(self.origin, self.settings), classify: self.classify }
    }

    /// A layer that gives each service that it makes a breaker of its own. They share the name and its count of
    /// rejections.
    pub const fn per_service(self) -> PerService<C> {
        PerService(self)
    }
}

#[cfg(feature = "keyed")]
impl<C> Builder<C> {
    /// A layer with a breaker for each key of the requests, such as the host: see [`KeyedLayer`](crate::KeyedLayer).
    ///
    /// The function is called for each request. Its result should be cheap to make and to clone.
    pub fn keyed<Req, K, F>(self, key: F) -> crate::KeyedLayer<K, F, C>
    where
        K: crate::Key,
        F: Fn(&Req) -> K,
    {
        crate::KeyedLayer::new(crate::Breakers::new(self.origin, self.settings), key, self.classify)
    }
}

/// A layer whose services do not share a breaker: made by [`Builder::per_service`].
#[derive(Debug, Clone)]
pub struct PerService<C = ByError>(Builder<C>);

impl<S, C: Clone> Layer<S> for PerService<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.clone().build().layer(inner)
    }
}
