//! Telemetry that is dropped, or shut down by somebody who does not wait.
#![cfg(feature = "otlp")]

#[path = "support/received.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several tests")]
mod received;

use std::time::Duration;

use buttress_telemetry::Telemetry;
use buttress_testkit::Collector;
use received::Received;
use tokio::{net::TcpListener, time::Instant};
use tracing_subscriber::layer::SubscriberExt;

/// With one span that waits.
fn telemetry(url: &str) -> Telemetry {
    let telemetry = Telemetry::builder("shop").otlp(url).sample(1.0).build().unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.tracing_layer());
    tracing::subscriber::with_default(subscriber, || tracing::info_span!("waits").in_scope(|| ()));
    telemetry
}

#[tokio::test]
async fn dropping_does_not_block_and_sends_what_waits_in_the_background() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let collector = Collector::start().await;
    for url in [format!("http://{}", silent.local_addr().unwrap()), collector.url()] {
        let telemetry = telemetry(&url);
        let began = Instant::now();
        drop(telemetry);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    }
    collector.arrived(1).await;
}

#[tokio::test]
async fn a_shutdown_that_nobody_waits_for_sends_all_the_same() {
    let collector = Collector::start().await;
    let telemetry = telemetry(&collector.url());
    let shutdown = telemetry.shutdown(Duration::from_secs(10));
    assert!(tokio::time::timeout(Duration::ZERO, shutdown).await.is_err());
    collector.arrived(1).await;
}

#[tokio::test]
async fn a_shutdown_may_have_all_the_time_of_the_world() {
    let collector = Collector::start().await;
    let flushed = telemetry(&collector.url()).shutdown(Duration::MAX).await;
    assert_eq!(flushed.spans, buttress_telemetry::Flush::Sent);
    assert_eq!(collector.spans().len(), 1);
}
