use std::time::Duration;

use buttress_core::{Backoff, ByError, Origin};
use tower_layer::Layer;

use crate::{
    Breaker, CircuitBreaker,
    config::{Probes, Settings, Trip},
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
    /// When it opens. Default: half of the last 100 calls failed, once there were 20.
    #[must_use]
    pub const fn trip(mut self, trip: Trip) -> Self {
        self.settings.trip = trip;
        self
    }

    /// How long it stays open, each time that it opens again without having closed. Default: 5 s, doubling, at most
    /// 60 s, each shortened by up to a half by chance.
    #[must_use]
    pub const fn open_for(mut self, backoff: Backoff) -> Self {
        self.settings.open_for = backoff;
        self
    }

    /// How it finds out whether the backend is back. Default: 3 probes with a lease of 10 s.
    #[must_use]
    pub const fn probes(mut self, probes: Probes) -> Self {
        self.settings.probes = probes;
        self
    }

    /// From which duration on a call is slow. Default: 1 s.
    ///
    /// A call that is dropped, or that ends without telling anything of the backend, after waiting that long counts as
    /// failed: otherwise a timeout around the breaker would hide a backend that hangs. Slow calls that end count with
    /// [`Trip::with_slow_rate`].
    #[must_use]
    pub const fn slow_call(mut self, duration: Duration) -> Self {
        self.settings.slow_call = duration;
        self
    }

    /// Never counts a dropped call as failed.
    #[must_use]
    pub const fn ignore_dropped(mut self) -> Self {
        self.settings.count_dropped = false;
        self
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

/// A layer whose services do not share a breaker: made by [`Builder::per_service`].
#[derive(Debug, Clone)]
pub struct PerService<C = ByError>(Builder<C>);

impl<S, C: Clone> Layer<S> for PerService<C> {
    type Service = CircuitBreaker<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.clone().build().layer(inner)
    }
}
