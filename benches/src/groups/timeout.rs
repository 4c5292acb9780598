//! A bound on a call that is ready at once.

use buttress_timeout::TimeoutLayer;
use tower::Layer;
use tower::timeout::Timeout;
use tower_resilience_timelimiter::TimeLimiterLayer;

use super::FOR_EVER;
use crate::{
    backend::HEALTHY,
    body::shared,
    row::{Expected, Row},
    verdict::Verdict,
};

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("timeout", name, Expected::All(Verdict::Served), build);
    vec![
        row("buttress ready", |_| shared(TimeoutLayer::new(FOR_EVER).named("ready").layer(HEALTHY))),
        row("tower", |_| shared(Timeout::new(HEALTHY, FOR_EVER))),
        row("tower-resilience", |_| {
            shared(TimeLimiterLayer::builder().timeout_duration(FOR_EVER).build().layer(HEALTHY))
        }),
    ]
}
