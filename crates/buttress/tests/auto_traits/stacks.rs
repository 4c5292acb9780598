//! Stacks of layers are what their layers are.

use std::time::Duration;

use buttress::{
    bulkhead::{BulkheadLayer, Limit},
    cache::Cache,
    circuit_breaker::CircuitBreakerLayer,
    core::{BoxError, CloneRequest},
    hedge::HedgeLayer,
    rate_limit::{Rate, RateLimitLayer},
    retry::RetryLayer,
    telemetry::{Registry, TelemetryLayer},
    timeout::TimeoutLayer,
};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

/// axum, tonic and `BoxCloneSyncService` ask for this.
fn fits_everywhere<S>(_: &S)
where
    S: Service<u32, Error = BoxError, Future: Send + 'static> + Clone + Send + Sync + 'static,
{
}

#[tokio::test]
async fn a_stack_of_all_layers_can_be_cloned_shared_and_spawned() {
    let registry = Registry::new();
    let cache = Cache::<u32, u32>::new("auto traits");
    let stack = ServiceBuilder::new()
        .layer(TelemetryLayer::new("auto traits", &registry).unwrap())
        .layer(cache.layer(|request: &u32| Some(*request)))
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .layer(RateLimitLayer::new("auto traits", Rate::per_second(100)))
        .layer(RetryLayer::new("auto traits"))
        .layer(HedgeLayer::new("auto traits", CloneRequest))
        .layer(CircuitBreakerLayer::new("auto traits"))
        .layer(TimeoutLayer::new(Duration::from_secs(1)))
        .layer(BulkheadLayer::new("auto traits", Limit::fixed(8).unwrap()))
        .service(service_fn(async |request: u32| Ok::<_, BoxError>(request + 1)));
    fits_everywhere(&stack);
    let call = tokio::spawn(stack.oneshot(7));
    assert_eq!(call.await.unwrap().unwrap(), 8);
}

#[test]
fn a_layer_that_waits_is_no_less() {
    let layer = RateLimitLayer::new("auto traits", Rate::per_second(100)).wait(Duration::from_secs(1));
    fits_everywhere(&layer.layer(service_fn(async |request: u32| Ok::<_, BoxError>(request))));
}
