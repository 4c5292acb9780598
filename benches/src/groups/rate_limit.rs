//! Limits that are never reached, one for all calls and one for each of many keys.

use std::{future::ready, num::NonZeroU32, sync::Arc, thread, time::Duration};

use buttress_rate_limit::{
    Limit, Rate as OurRate,
    cluster::{ClusterLayer, MemoryStore},
};
use governor::{Quota, RateLimiter};
use tokio::{runtime::Runtime, sync::oneshot};
use tower::{
    BoxError, Layer, Service,
    limit::{RateLimit, rate::Rate},
    service_fn,
};
use tower_resilience_ratelimiter::{RateLimiterLayer, WindowType};

use super::UNREACHED;
use crate::{
    backend::HEALTHY,
    body::{Body, shared, single},
    ours::{self, FEW_KEYS, key, limited, limited_by_key},
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

const MANY_KEYS: u32 = 1_000_000;

/// Decides on leases, which a task takes from the store meanwhile: on a thread of its own, as the one that is measured runs
/// nothing else, to the end of the program.
fn buttress_leased(_: &Runtime) -> Box<dyn Body> {
    let rate = OurRate::per_second(UNREACHED);
    let layer = ClusterLayer::builder("leased", rate, MemoryStore::new()).leased().build();
    let limiter = layer.limiter();
    let (ready, is_ready) = oneshot::channel();
    thread::spawn(move || {
        let runtime = crate::body::runtime().expect("the system has room for a runtime");
        runtime.block_on(async {
            // A node that is new has small leases for the first life of one.
            for _ in 0..100 {
                limiter.acquire(1).await.expect("the limit is not reached");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let _ = ready.send(());
            std::future::pending::<()>().await;
        });
    });
    is_ready.blocking_recv().expect("it gets its leases");
    shared(layer.layer(HEALTHY))
}

/// All keys are there when it is measured.
fn governor_keyed<const KEYS: u32>(_: &Runtime) -> Box<dyn Body> {
    let limiter = Arc::new(RateLimiter::dashmap(unreached()));
    for key in 0..u64::from(KEYS) {
        limiter.check_key(&key).expect("it is the first of that key");
    }
    let mut inner = HEALTHY;
    shared(service_fn(move |request| {
        ready(match limiter.check_key(&key(request, KEYS)) {
            Ok(()) => inner.call(request).into_inner().map_err(Governed::Failed),
            Err(_) => Err(Governed::Refused),
        })
    }))
}

fn unreached() -> Quota {
    Quota::per_second(NonZeroU32::new(UNREACHED).expect("it is not zero"))
}

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("rate-limit", name, Expected::All(Verdict::Served), build);
    let others = vec![
        row("buttress log", |_| {
            // As many as a log can be long, in so short a time that they are not reached.
            let rate = OurRate::try_new(Limit::MAX_LOG, Duration::from_millis(5));
            limited(Limit::sliding_log(rate.expect("the rate is valid")).expect("the log is not too long"))
        }),
        row("buttress leased", buttress_leased),
        row("buttress keyed 1m", limited_by_key::<MANY_KEYS>).filled_with(MANY_KEYS),
        row("governor direct", |_| {
            let limiter = Arc::new(RateLimiter::direct(unreached()));
            let mut inner = HEALTHY;
            shared(service_fn(move |request| {
                ready(match limiter.check() {
                    Ok(()) => inner.call(request).into_inner().map_err(Governed::Failed),
                    Err(_) => Err(Governed::Refused),
                })
            }))
        }),
        row("governor keyed 10k", governor_keyed::<FEW_KEYS>).filled_with(FEW_KEYS),
        row("governor keyed 1m", governor_keyed::<MANY_KEYS>).filled_with(MANY_KEYS),
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
    ];
    [ours::rows_of("rate-limit"), others].concat()
}

impl Refusal for tower_resilience_ratelimiter::RateLimiterServiceError<BoxError> {
    fn is_refusal(&self) -> bool {
        matches!(self, Self::RateLimited)
    }
}
