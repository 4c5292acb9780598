//! One limit, and layers that let calls wait for it for different times.

use std::time::Duration;

use buttress_core::Rejected;
use buttress_rate_limit::{Rate, RateLimitLayer};
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn a_layer_of_the_same_limit_waits_for_another_time() {
    let layer = RateLimitLayer::new("orders", Rate::per_second(1));
    let inner = service_fn(async |(): ()| Ok::<_, Rejected>(()));
    layer.layer(inner).oneshot(()).await.unwrap();
    assert!(layer.layer(inner).oneshot(()).await.is_err(), "it refuses");

    let patient = layer.clone().wait(Duration::from_secs(2));
    let began = Instant::now();
    patient.layer(inner).oneshot(()).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(900), "it waited for the unit that the other one took");
    assert!(layer.layer(inner).oneshot(()).await.is_err(), "and they are one limit");
    assert!(patient.wait(Duration::from_millis(1)).layer(inner).oneshot(()).await.is_err(), "too long");
}
