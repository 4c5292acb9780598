use std::time::Duration;

use buttress_core::{Metric, Observe, Origin, Setting, SettingValue, WeakObserve};
use tower_layer::Layer;

use crate::Timeout;

/// Bounds how long a call may take, and sets its [`Deadline`](buttress_core::Deadline).
///
/// See the [crate's documentation](crate). The layer is its own [`Observe`] handle: copies report the same figures.
#[derive(Debug, Clone, Copy)]
pub struct TimeoutLayer {
    limit: Duration,
    origin: Origin,
}

impl TimeoutLayer {
    /// Gives a call that long, from its first poll that has to wait. Named `timeout` until it has a [`name`](Self::name).
    ///
    /// A call that is ready at its first poll succeeds under any limit, zero included. A limit beyond 30 years is
    /// taken as 30 years.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self { limit, origin: Origin::new("timeout", "timeout") }
    }

    /// The same under a name of its own, which rejections and metrics bear. Give each place in a stack its own.
    ///
    /// Names are kept for the life of the process: take them from configuration, never from what a client sends.
    #[must_use]
    pub fn name(self, name: &str) -> Self {
        Self { origin: Origin::new("timeout", name), ..self }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Timeout<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Timeout::new(inner, self.limit, self.origin)
    }
}

/// The rejections, by reason: `timed_out` and `deadline_exceeded`.
impl Observe for TimeoutLayer {
    fn origin(&self) -> Origin {
        self.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::stateless(self)
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        self.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        visit(Setting::new("limit", SettingValue::Duration(self.limit)));
    }
}
