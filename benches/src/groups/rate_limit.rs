//! A limit that is never reached.

use std::{future::ready, num::NonZeroU32, sync::Arc, time::Duration};

use governor::{Quota, RateLimiter};
use tower::{
    BoxError, Layer, Service,
    limit::{RateLimit, rate::Rate},
    service_fn,
};
use tower_resilience_ratelimiter::{RateLimiterLayer, WindowType};

use super::UNREACHED;
use crate::{
    backend::HEALTHY,
    body::{shared, single},
    row::{Expected, Row},
    verdict::{Refusal, Verdict},
};

/// governor refuses with a value of its own; this is the least that a caller would make of it.
enum Governed {
    Refused,
    Failed(BoxError),
}

impl Refusal for Governed {
    fn is_refusal(&self) -> bool {
        match self {
            Self::Refused => true,
            Self::Failed(failure) => failure.is_refusal(),
        }
    }
}

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("rate-limit", name, Expected::All(Verdict::Served), build);
    vec![
        row("governor direct", |_| {
            let rate = NonZeroU32::new(UNREACHED).expect("it is not zero");
            let limiter = Arc::new(RateLimiter::direct(Quota::per_second(rate)));
            let mut inner = HEALTHY;
            shared(service_fn(move |request| {
                ready(match limiter.check() {
                    Ok(()) => inner.call(request).into_inner().map_err(Governed::Failed),
                    Err(_) => Err(Governed::Refused),
                })
            }))
        }),
        row("tower", |_| {
            single(RateLimit::new(HEALTHY, Rate::new(UNREACHED.into(), Duration::from_secs(1))))
        }),
        row("tower-resilience sliding counter", |_| {
            let layer = RateLimiterLayer::builder()
                .limit_for_period(UNREACHED as usize)
                .refresh_period(Duration::from_secs(1))
                .window_type(WindowType::SlidingCounter)
                .build()
                .expect("the limit is valid");
            shared(layer.layer(HEALTHY))
        }),
    ]
}
