//! A stack of layers before a backend that can be told to fail.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_bulkhead::{BulkheadLayer, Limit, Queue};
use buttress_circuit_breaker::{Breaker, CircuitBreakerLayer, Trip};
use buttress_core::{Backoff, Jitter};
use buttress_rate_limit::{Limit as RateOf, Rate, RateLimitLayer};
use buttress_retry::{Retrier, RetryLayer};
use buttress_telemetry::{Registry, TelemetryLayer};
use buttress_timeout::TimeoutLayer;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, util::BoxCloneSyncService};

pub(crate) struct Stack {
    pub(crate) registry: Registry,
    pub(crate) breaker: Breaker,
    pub(crate) is_down: Arc<AtomicBool>,
    /// How long the backend takes.
    pub(crate) takes_millis: Arc<AtomicU64>,
    _retrier: Retrier,
    service: BoxCloneSyncService<(), (), BoxError>,
}

pub(crate) const OPEN_FOR: Duration = Duration::from_secs(7);

impl Stack {
    /// Its layers are called by `name`.
    pub(crate) fn new(name: &str) -> Self {
        let registry = Registry::new();
        let is_down = Arc::new(AtomicBool::new(false));
        let takes_millis = Arc::new(AtomicU64::new(10));
        let telemetry = TelemetryLayer::new(name, &registry).unwrap();
        let total = TimeoutLayer::new(Duration::from_secs(2)).name(name);
        let rate = RateLimitLayer::new(name, RateOf::sliding_window(Rate::per_second(10_000)));
        let retry = RetryLayer::new(name).retries(1);
        let retrier = retry.retrier();
        let breaker = CircuitBreakerLayer::builder(name)
            .trip(Trip::consecutive(5).unwrap())
            .open_for(Backoff::constant(OPEN_FOR).with_jitter(Jitter::None))
            .build();
        let bulkhead = BulkheadLayer::builder(name, Limit::fixed(4).unwrap())
            .queue(Queue::try_new(10, Duration::from_secs(1)).unwrap())
            .build();
        registry
            .stack(name)
            .layer(&telemetry)
            .layer(&total)
            .layer(&rate.limiter())
            .layer(&retrier)
            .layer(&breaker.breaker())
            .layer(&bulkhead.limiter())
            .register()
            .unwrap();
        let (handle, down) = (breaker.breaker(), Arc::clone(&is_down));
        let takes = Arc::clone(&takes_millis);
        let backend = tower::service_fn(move |()| {
            let (is_down, takes) = (down.load(SeqCst), Duration::from_millis(takes.load(SeqCst)));
            async move {
                tokio::time::sleep(takes).await;
                if is_down { Err(io::Error::other("the backend is down")) } else { Ok(()) }
            }
        });
        let service = ServiceBuilder::new()
            .layer(telemetry)
            .layer(total)
            .layer(rate)
            .layer(retry)
            .layer(breaker)
            .layer(bulkhead)
            .service(backend);
        Self {
            registry,
            breaker: handle,
            is_down,
            takes_millis,
            _retrier: retrier,
            service: BoxCloneSyncService::new(service.map_err(Into::into)),
        }
    }

    pub(crate) async fn call(&self) -> Result<(), BoxError> {
        let mut service = self.service.clone();
        service.ready().await?.call(()).await
    }

    /// So many calls, one after the other, 100 ms apart.
    pub(crate) async fn calls(&self, count: u32) {
        for _ in 0..count {
            _ = self.call().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
