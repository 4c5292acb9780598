//! The wiring of a whole process, so in a file of its own.
#![cfg(feature = "otlp")]

#[path = "support/received.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared by several tests")]
mod received;

use std::{env, process::Command, time::Duration};

use buttress_telemetry::{Flush, Telemetry, TelemetryError};
use buttress_testkit::Collector;
use opentelemetry::{
    global,
    trace::{Span as _, Tracer},
};
use received::{Received, text};

#[tokio::test]
async fn one_call_sets_up_a_process_and_a_second_is_an_error() {
    // The environment is given by a parent, since it cannot be changed here.
    const CHILD: &str = "BUTTRESS_INSTALL_CHILD";
    if env::var_os(CHILD).is_none() {
        let name = "one_call_sets_up_a_process_and_a_second_is_an_error";
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, "1")
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=0")
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&child.stderr);
        assert!(child.status.success(), "{}{output}", String::from_utf8_lossy(&child.stdout));
        assert!(output.contains("logged too") && !output.contains("not logged"), "{output}");
        assert!(!output.contains("hunter2"), "{output}");
        return;
    }

    let collector = Collector::start().await;
    let builder = || {
        Telemetry::builder("shop")
            .version("1.2.3")
            .attribute("host.name", "a")
            .otlp(&collector.url())
            .otlp_header("Authorization", "Bearer hunter2")
            .sample(1.0)
            .log("info,h2=off")
    };
    let telemetry = builder().install().unwrap();
    let second = builder().install().unwrap_err();
    assert_eq!(second, TelemetryError::AlreadyInstalled);
    assert!(second.to_string().contains("tracing_layer"));

    tracing::info_span!("handler", order = 7).in_scope(|| {
        tracing::info!("logged too");
        tracing::debug!("not logged");
        let mut headers = std::collections::HashMap::new();
        global::get_text_map_propagator(|propagator| propagator.inject(&mut headers));
        assert!(headers["traceparent"].ends_with("-01"), "{headers:?}");
        global::tracer("a library").start("by OpenTelemetry alone").end();
    });
    tracing::debug_span!("too fine").in_scope(|| ());
    let flushed = telemetry.shutdown(Duration::from_secs(10)).await;
    assert_eq!((flushed.spans, flushed.metrics, flushed.spans_lost), (Flush::Sent, Flush::Off, 0));

    assert_eq!(collector.spans().len(), 2);
    let handler = collector.named("handler");
    assert_eq!(text(&handler.attributes, "order").as_deref(), Some("7"));
    assert_eq!(handler.events[0].name, "logged too");
    assert_eq!(collector.named("by OpenTelemetry alone").parent_span_id, handler.span_id);
    for (key, value) in [
        ("service.name", "shop"),
        ("service.version", "1.2.3"),
        ("host.name", "a"),
        ("deployment.environment.name", "test"),
        ("telemetry.sdk.language", "rust"),
    ] {
        assert_eq!(collector.resource(key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(collector.header("authorization").as_deref(), Some("Bearer hunter2"));
}
