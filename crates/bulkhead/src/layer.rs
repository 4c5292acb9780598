use buttress_core::{ByError, Origin, thread_stripes};
use tower_layer::Layer;

use crate::{Bulkhead, ByTask, Limit, Limiter, Queue, Reject, config::Settings};

/// Puts a bulkhead before a service. All services that one layer makes, and their clones, share one limit.
///
/// See the [crate's documentation](crate).
#[derive(Debug, Clone)]
pub struct BulkheadLayer<Q = Reject, P = ByTask, C = ByError> {
    limiter: Limiter,
    when_full: Q,
    prioritize: P,
    classify: C,
}

impl BulkheadLayer {
    /// A bulkhead of that name and limit, which refuses at once where it is full.
    #[must_use]
    pub fn new(name: &str, limit: Limit) -> Self {
        Self::builder(name, limit).build()
    }

    /// A bulkhead of that name and limit, to be changed.
    #[must_use]
    pub fn builder(name: &str, limit: Limit) -> Builder {
        Builder {
            origin: Origin::new("bulkhead", name),
            settings: Settings { limit, queue: None, stripes: thread_stripes() },
            when_full: Reject,
            prioritize: ByTask,
            classify: ByError,
        }
    }
}

impl<Q, P, C> BulkheadLayer<Q, P, C> {
    /// The handle of the bulkhead.
    #[must_use]
    pub fn limiter(&self) -> Limiter {
        self.limiter.clone()
    }
}

impl<S, Q: Clone, P: Clone, C: Clone> Layer<S> for BulkheadLayer<Q, P, C> {
    type Service = Bulkhead<S, Q, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead::new(
            inner,
            self.limiter.clone(),
            self.when_full.clone(),
            self.prioritize.clone(),
            self.classify.clone(),
        )
    }
}

/// The settings of a bulkhead. Every value is valid by construction, so [`build`](Self::build) cannot fail.
#[derive(Debug, Clone)]
pub struct Builder<Q = Reject, P = ByTask, C = ByError> {
    pub(crate) origin: Origin,
    pub(crate) settings: Settings,
    pub(crate) when_full: Q,
    pub(crate) prioritize: P,
    pub(crate) classify: C,
}

impl<Q, P, C> Builder<Q, P, C> {
    /// Lets calls wait where no permit is free. The service inside must be `Clone` then. Default: they are refused.
    #[must_use]
    pub fn queue(self, queue: Queue) -> Builder<Queue, P, C> {
        let Self { origin, mut settings, prioritize, classify, .. } = self;
        settings.queue = Some(queue);
        Builder { origin, settings, when_full: queue, prioritize, classify }
    }

    /// Takes from the request how much the call matters: any `Fn(&Req) -> Option<Criticality>`. It runs only where the
    /// bulkhead is full. Default: the task says it, see [`Criticality`](crate::Criticality).
    #[must_use]
    pub fn criticality<R>(self, prioritize: R) -> Builder<Q, R, C> {
        let Self { origin, settings, when_full, classify, .. } = self;
        Builder { origin, settings, when_full, prioritize, classify }
    }

    /// Judges results by this classifier, for an adaptive limit. Default: [`ByError`]. It is cloned for every call: one
    /// that holds something large should hold an `Arc` of it.
    #[must_use]
    pub fn classify<D>(self, classify: D) -> Builder<Q, P, D> {
        let Self { origin, settings, when_full, prioritize, .. } = self;
        Builder { origin, settings, when_full, prioritize, classify }
    }

    /// The layer, with a limit of its own.
    #[must_use]
    pub fn build(self) -> BulkheadLayer<Q, P, C> {
        let Self { origin, settings, when_full, prioritize, classify } = self;
        BulkheadLayer { limiter: Limiter::new(origin, settings), when_full, prioritize, classify }
    }

    /// A layer that gives each service that it makes a limit of its own. They share the name and its count of
    /// rejections.
    pub const fn per_service(self) -> PerService<Q, P, C> {
        PerService(self)
    }
}

/// A layer whose services do not share a limit: made by [`Builder::per_service`].
#[derive(Debug, Clone)]
pub struct PerService<Q = Reject, P = ByTask, C = ByError>(Builder<Q, P, C>);

impl<S, Q: Clone, P: Clone, C: Clone> Layer<S> for PerService<Q, P, C> {
    type Service = Bulkhead<S, Q, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        self.0.clone().build().layer(inner)
    }
}
