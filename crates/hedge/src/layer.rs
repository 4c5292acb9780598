use std::sync::{Arc, OnceLock};

use buttress_budget::Budget;
use buttress_core::{ByError, Origin};
use tower_layer::Layer;

use crate::{
    Hedge, HedgeDelay, Hedger,
    loan::{Inner, Loan, Settings},
};

/// Starts a second attempt where the first is late. All services that one layer makes, and their clones, share one budget,
/// one measure of how long calls take, and their counters.
///
/// See the [crate's documentation](crate).
#[derive(Debug, Clone)]
pub struct HedgeLayer<P, C = ByError> {
    origin: Origin,
    settings: Settings,
    budget: Budget,
    requests: P,
    classify: C,
    shared: Arc<OnceLock<Loan>>,
}

impl<P> HedgeLayer<P> {
    /// A layer of that name with the defaults. `requests` says which requests may be carried out twice, and copies them:
    /// [`CloneRequest`](crate::CloneRequest) where all of them may, or a function `Fn(&Req) -> Option<Req>`.
    ///
    /// Names are kept for the life of the process: take them from configuration, never from what a client sends.
    #[must_use]
    pub fn new(name: &str, requests: P) -> Self {
        Self {
            origin: Origin::new("hedge", name),
            settings: Settings { attempts: 2, delay: HedgeDelay::default() },
            budget: default_budget(),
            requests,
            classify: ByError,
            shared: Arc::default(),
        }
    }
}

/// Twice what the 95th percentile wants: room for a backend whose latency changes, before it is measured. What wants
/// more is not the tail of a healthy backend but a slow one, to which more load does harm. The floor is for those who
/// call seldom.
fn default_budget() -> Budget {
    Budget::try_new(0.1, 1, std::time::Duration::from_secs(10)).expect("it is valid")
}

impl<P, C> HedgeLayer<P, C> {
    /// How many attempts a call may have, with the first one. Default: 2. With 1, or 0, nothing is hedged.
    #[must_use]
    pub fn attempts(self, most: u32) -> Self {
        let settings = Settings { attempts: most, ..self.settings };
        self.with(settings)
    }

    /// How long an attempt may take before the next one starts. Default: the 95th percentile of what calls take, between
    /// 1 ms and 10 s, and 1 s until it is measured.
    #[must_use]
    pub fn delay(self, delay: impl Into<HedgeDelay>) -> Self {
        let settings = Settings { delay: delay.into(), ..self.settings };
        self.with(settings)
    }

    /// How many hedges there may be for all callers together. Default: a tenth of the calls of the last 10 s, and one a
    /// second.
    ///
    /// It can be shared with other layers. Inside of a retry with the same budget it is
    /// [`budget.counted_outside()`](Budget::counted_outside), since the retry counts the calls.
    #[must_use]
    pub fn budget(self, budget: Budget) -> Self {
        Self { budget, shared: Arc::default(), ..self }
    }

    /// Which results are final and which are not. Default: [`ByError`].
    #[must_use]
    pub fn classify<D>(self, classify: D) -> HedgeLayer<P, D> {
        let Self { origin, settings, budget, requests, .. } = self;
        HedgeLayer { origin, settings, budget, requests, classify, shared: Arc::default() }
    }

    /// A handle on the same budget, measure and counters: to read them, and to hedge functions that are no `Service`.
    #[must_use]
    pub fn hedger(&self) -> Hedger<C>
    where
        C: Clone,
    {
        let shared = Arc::clone(&self.shared);
        Hedger::new(self.lent(), shared, self.budget.clone(), self.classify.clone())
    }

    /// State of its own for other settings: what a clone of before has begun to share goes on with the old ones.
    fn with(self, settings: Settings) -> Self {
        Self { settings, shared: Arc::default(), ..self }
    }

    fn lent(&self) -> &'static Inner {
        self.shared.get_or_init(|| Loan::of(self.origin, self.settings, self.budget.clone())).inner()
    }
}

impl<S, P: Clone, C: Clone> Layer<S> for HedgeLayer<P, C> {
    type Service = Hedge<S, P, C>;

    fn layer(&self, inner: S) -> Self::Service {
        let shared = Arc::clone(&self.shared);
        let (requests, classify) = (self.requests.clone(), self.classify.clone());
        Hedge::new(inner, self.lent(), shared, self.budget.clone(), requests, classify)
    }
}
