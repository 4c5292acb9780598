//! Bulkheads that are far from full, with a fixed and with an adaptive limit.

use std::{future::poll_fn, task::Poll, time::Duration};

use buttress_bulkhead::{Adaptive, BulkheadLayer, Limit, Queue};
use tower::{BoxError, Layer, limit::ConcurrencyLimit, service_fn};
use tower_resilience_adaptive::{AdaptiveError, AdaptiveLimiterLayer, Aimd};
use tower_resilience_bulkhead::{BulkheadLayer as ResilienceLayer, BulkheadServiceError};

use crate::{
    backend::HEALTHY,
    body::shared,
    ours::{self, LIMIT, fixed},
    row::{Expected, Row},
    verdict::{Refusal, Verdict},
};

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("bulkhead", name, Expected::All(Verdict::Served), build);
    let others = vec![
        row("buttress fixed queue", |_| {
            let queue = Queue::try_new(LIMIT, Duration::from_secs(1)).expect("the queue is valid");
            shared(BulkheadLayer::builder("queue", fixed()).queue(queue).build().layer(HEALTHY))
        }),
        row("tower", |_| shared(ConcurrencyLimit::new(HEALTHY, LIMIT as usize))),
        row("tower-resilience", |_| {
            let layer = ResilienceLayer::builder().max_concurrent_calls(LIMIT as usize).build();
            shared(layer.expect("the limit is valid").layer(HEALTHY))
        }),
        row("tower-resilience aimd", |_| {
            let aimd = Aimd::builder().build().expect("the defaults are valid");
            shared(AdaptiveLimiterLayer::new(aimd).layer(HEALTHY))
        }),
        // A call that has to wait is timed by our adaptive limit; one that is ready at once is not.
        row("waiting bare", |_| shared(service_fn(later))),
        row("waiting buttress adaptive", |_| {
            let limit = Limit::adaptive(Adaptive::aimd());
            shared(BulkheadLayer::new("waiting", limit).layer(service_fn(later)))
        }),
        row("waiting tower-resilience aimd", |_| {
            let aimd = Aimd::builder().build().expect("the defaults are valid");
            shared(AdaptiveLimiterLayer::new(aimd).layer(service_fn(later)))
        }),
    ];
    [ours::rows_of("bulkhead"), others].concat()
}

/// Answers at the second poll.
fn later(request: u64) -> impl Future<Output = Result<u64, BoxError>> {
    let mut polled = false;
    poll_fn(move |cx| {
        if std::mem::replace(&mut polled, true) {
            return Poll::Ready(Ok(request));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
}

impl Refusal for BulkheadServiceError<BoxError> {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::Bulkhead(_))
    }
}

impl Refusal for AdaptiveError<BoxError> {
    fn is_refusal(&self) -> bool {
        !matches!(self, Self::Service(_))
    }
}
