//! A client's whole stack beside the stacks that one would make of the peers' layers.

use std::time::Duration;

use buttress_core::BoxError;
use tower::{
    Layer,
    limit::ConcurrencyLimit,
    retry::{Retry, budget::TpsBudget},
    timeout::Timeout,
};
use tower_resilience_bulkhead::{BulkheadLayer as ResilienceBulkhead, BulkheadServiceError};
use tower_resilience_circuitbreaker::{CircuitBreakerError, CircuitBreakerLayer as ResilienceBreaker};
use tower_resilience_ratelimiter::{RateLimiterLayer, RateLimiterServiceError, WindowType};
use tower_resilience_retry::RetryLayer as ResilienceRetry;
use tower_resilience_timelimiter::{TimeLimiterError, TimeLimiterLayer};

use super::{FOR_EVER, UNREACHED, retry::Persistent};
use crate::{
    backend::HEALTHY,
    body::{Body, shared},
    ours::{self, LIMIT, stack},
    row::{Expected, Row},
    verdict::{Refusal, Verdict},
};

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("stack", name, Expected::All(Verdict::Served), build);
    let mut rows = ours::rows_of("stack");
    rows.extend([
        row("buttress six, no cache", |_| shared(stack::without_cache())),
        row("tower three", |_| {
            let budget = TpsBudget::new(Duration::from_secs(10), 10, 0.2);
            let limited = ConcurrencyLimit::new(HEALTHY, LIMIT as usize);
            shared(Timeout::new(Retry::new(Persistent::new(Some(budget)), limited), FOR_EVER))
        }),
        row("tower-resilience five", |_| resilience_five()),
    ]);
    rows
}

/// In the same order as ours.
fn resilience_five() -> Box<dyn Body> {
    let bulkhead = ResilienceBulkhead::builder().max_concurrent_calls(LIMIT as usize).build();
    let breaker = ResilienceBreaker::builder().sliding_window_size(100).wait_duration_in_open(FOR_EVER);
    let rate = RateLimiterLayer::builder()
        .limit_for_period(UNREACHED as usize)
        .refresh_period(Duration::from_secs(1))
        .window_type(WindowType::SlidingCounter)
        .build();
    let attempt = breaker
        .build()
        .expect("the thresholds are valid")
        .layer(bulkhead.expect("the limit is valid").layer(HEALTHY));
    let retried = ResilienceRetry::<u64, u64, _>::builder()
        .max_attempts(3)
        .exponential_backoff(Duration::from_millis(50))
        .build()
        .layer(attempt);
    let limited = rate.expect("the limit is valid").layer(retried);
    shared(TimeLimiterLayer::builder().timeout_duration(FOR_EVER).build().layer(limited))
}

type Attempted = CircuitBreakerError<BulkheadServiceError<BoxError>>;

impl Refusal for TimeLimiterError<RateLimiterServiceError<Attempted>> {
    fn is_refusal(&self) -> bool {
        match self {
            Self::Inner(RateLimiterServiceError::Inner(CircuitBreakerError::Inner(error))) => {
                error.is_refusal()
            }
            _ => true,
        }
    }
}
