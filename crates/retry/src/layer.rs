use buttress_core::{Backoff, ByError, Origin};
use tower_layer::Layer;

use crate::{Budget, CloneRequest, Retrier, Retry, rules::Rules};

/// Repeats calls that fail. All services that one layer makes, and their clones, share one budget and its counters.
///
/// See the [crate's documentation](crate).
#[derive(Debug, Clone)]
pub struct RetryLayer<C = ByError, P = CloneRequest> {
    rules: Rules<C>,
    requests: P,
}

impl RetryLayer {
    /// A layer of that name with the defaults.
    ///
    /// Names are kept for the life of the process: take them from configuration, never from what a client sends.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let rules = Rules {
            origin: Origin::new("retry", name),
            retries: 2,
            backoff: Backoff::default(),
            budget: Budget::default(),
            classify: ByError,
            counts: Default::default(),
        };
        Self { rules, requests: CloneRequest }
    }
}

impl<C, P> RetryLayer<C, P> {
    /// How often a call is repeated at most; zero never repeats. Default: 2, which is 3 attempts in all.
    #[must_use]
    pub fn retries(mut self, most: u32) -> Self {
        self.rules.retries = most;
        self
    }

    /// How long to wait between attempts. Default: up to 100 ms before the second attempt, up to 200 ms before the
    /// third, doubling, at most 10 s; with full jitter.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.rules.backoff = backoff;
        self
    }

    /// How many retries there may be for all callers together. Default: a fifth of the calls of the last 10 s, and 10 a
    /// second.
    #[must_use]
    pub fn budget(mut self, budget: Budget) -> Self {
        self.rules.budget = budget;
        self
    }

    /// Which results are worth a retry. Default: [`ByError`].
    #[must_use]
    pub fn classify<D>(self, classify: D) -> RetryLayer<D, P> {
        let Rules { origin, retries, backoff, budget, classify: _, counts } = self.rules;
        RetryLayer {
            rules: Rules { origin, retries, backoff, budget, classify, counts },
            requests: self.requests,
        }
    }

    /// Which requests can be repeated, and how they are copied. Default: all of them, by `Clone`.
    #[must_use]
    pub fn requests<Q>(self, requests: Q) -> RetryLayer<C, Q> {
        RetryLayer { rules: self.rules, requests }
    }

    /// A handle on the same budget and counters: to read them, and to repeat functions that are no `Service`.
    #[must_use]
    pub fn retrier(&self) -> Retrier<C>
    where
        C: Clone,
    {
        Retrier::new(self.rules.clone())
    }
}

impl<S, C: Clone, P: Clone> Layer<S> for RetryLayer<C, P> {
    type Service = Retry<S, C, P>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry::new(inner, &self.rules, &self.requests)
    }
}
