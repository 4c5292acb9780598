//! Spans and metrics by the wiring in one call.
#![cfg(feature = "otlp")]

use std::time::Duration;

use buttress_bulkhead::{BulkheadLayer, Limit};
use buttress_telemetry::{Flush, Registry, Telemetry};
use buttress_testkit::Collector;
use tracing_subscriber::layer::SubscriberExt;

#[tokio::test]
async fn a_registry_and_spans_go_to_one_collector_and_are_flushed_at_the_end() {
    let collector = Collector::start().await;
    let registry = Registry::new();
    let bulkhead = BulkheadLayer::new("telemetry_metrics", Limit::fixed(3).unwrap());
    registry.register(&bulkhead.limiter()).unwrap();
    let telemetry = Telemetry::builder("shop")
        .otlp(&collector.url())
        .sample(1.0)
        .registry(&registry)
        .metrics_every(Duration::from_secs(3600))
        .build()
        .unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.tracing_layer());
    tracing::subscriber::with_default(subscriber, || tracing::info_span!("work").in_scope(|| ()));
    let flushed = telemetry.shutdown(Duration::from_secs(10)).await;
    assert_eq!((flushed.spans, flushed.metrics), (Flush::Sent, Flush::Sent));
    assert_eq!(collector.spans()[0].name, "work");
    assert!(collector.metric_names().iter().any(|name| name.starts_with("buttress.bulkhead.")));
}

#[tokio::test]
async fn headers_go_with_metrics_too() {
    let (collector, registry) = (Collector::start().await, Registry::new());
    let bulkhead = BulkheadLayer::new("telemetry_metrics_headers", Limit::fixed(3).unwrap());
    registry.register(&bulkhead.limiter()).unwrap();
    let telemetry = Telemetry::builder("shop")
        .otlp(&collector.url())
        .otlp_header("authorization", "Bearer hunter2")
        .registry(&registry)
        .build()
        .unwrap();
    // There is no span.
    assert_eq!(telemetry.shutdown(Duration::from_secs(10)).await.metrics, Flush::Sent);
    assert!(!collector.metrics().is_empty());
    assert_eq!(collector.metadata().unwrap().get("authorization").unwrap(), "Bearer hunter2");
}
