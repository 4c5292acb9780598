//! A bound on a call that is ready at once.

use tower::{BoxError, Layer, timeout::Timeout};
use tower_resilience_timelimiter::{TimeLimiterError, TimeLimiterLayer};

use super::FOR_EVER;
use crate::{
    backend::HEALTHY,
    body::shared,
    ours,
    row::{Expected, Row},
    verdict::{Refusal, Verdict},
};

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("timeout", name, Expected::All(Verdict::Served), build);
    let peers = vec![
        row("tower", |_| shared(Timeout::new(HEALTHY, FOR_EVER))),
        row("tower-resilience", |_| {
            shared(TimeLimiterLayer::builder().timeout_duration(FOR_EVER).build().layer(HEALTHY))
        }),
    ];
    [ours::rows_of("timeout"), peers].concat()
}

impl Refusal for TimeLimiterError<BoxError> {
    fn is_refusal(&self) -> bool {
        self.is_timeout()
    }
}
