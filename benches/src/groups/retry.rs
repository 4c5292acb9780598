//! A retry layer around calls that succeed at the first attempt.

use std::{sync::Arc, time::Duration};

use tokio::time::Sleep;
use tower::{
    BoxError, Layer,
    retry::{
        Policy, Retry,
        backoff::{Backoff, ExponentialBackoff, ExponentialBackoffMaker, MakeBackoff},
        budget::{Budget, TpsBudget},
    },
    util::rng::HasherRng,
};
use tower_resilience_retry::{RetryBudgetBuilder, RetryConfigBuilder, RetryLayer};

use crate::{
    backend::HEALTHY,
    body::shared,
    ours,
    row::{Expected, Row},
    verdict::Verdict,
};

const ATTEMPTS: usize = 3;
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("retry", name, Expected::All(Verdict::Served), build);
    let others = vec![
        row("tower", |_| shared(Retry::new(Persistent::new(None), HEALTHY))),
        row("tower budget", |_| {
            let budget = TpsBudget::new(Duration::from_secs(10), 10, 0.2);
            shared(Retry::new(Persistent::new(Some(budget)), HEALTHY))
        }),
        row("tower-resilience", |_| shared(resilience().build().layer(HEALTHY))),
        row("tower-resilience budget", |_| {
            let budget = RetryBudgetBuilder::new().token_bucket().build().expect("its defaults are valid");
            shared(resilience().budget(budget).build().layer(HEALTHY))
        }),
    ];
    [ours::rows_of("retry"), others].concat()
}

/// The policy that tower leaves to its user: some attempts, a backoff between them, a budget for all callers.
#[derive(Clone)]
pub(super) struct Persistent {
    left: usize,
    backoff: ExponentialBackoff<HasherRng>,
    budget: Option<Arc<TpsBudget>>,
}

impl Persistent {
    pub(super) fn new(budget: Option<TpsBudget>) -> Self {
        let mut backoff = ExponentialBackoffMaker::new(FIRST_DELAY, LONGEST_DELAY, 0.5, HasherRng::default())
            .expect("the delays are valid");
        Self { left: ATTEMPTS - 1, backoff: backoff.make_backoff(), budget: budget.map(Arc::new) }
    }
}

impl Policy<u64, u64, BoxError> for Persistent {
    type Future = Sleep;

    fn retry(&mut self, _: &mut u64, result: &mut Result<u64, BoxError>) -> Option<Sleep> {
        match result {
            Ok(_) => {
                if let Some(budget) = &self.budget {
                    budget.deposit();
                }
                None
            }
            Err(_) => {
                self.left = self.left.checked_sub(1)?;
                let afforded = self.budget.as_ref().is_none_or(|budget| budget.withdraw());
                afforded.then(|| self.backoff.next_backoff())
            }
        }
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}

fn resilience() -> RetryConfigBuilder<u64, u64, BoxError> {
    RetryLayer::builder().max_attempts(ATTEMPTS).exponential_backoff(FIRST_DELAY)
}
