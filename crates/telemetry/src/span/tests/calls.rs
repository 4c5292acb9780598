use std::time::Duration;

use buttress_core::{Decision, Origin};
use opentelemetry::Context;
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

use super::{
    received::{Received, text},
    support::{Ends, call, settings, setup},
};
use crate::{
    Label, Side,
    source::End,
    span::{CallSpan, SpanEnd, attributes::MAX_TEXT},
};

fn code(span: &opentelemetry_proto::tonic::trace::v1::Span) -> StatusCode {
    span.status.clone().unwrap_or_default().code()
}

#[tokio::test]
async fn a_sampled_call_arrives_with_all_that_is_known_of_it() {
    let setup = setup(1.0).await;
    let origin = Origin::new("retry", "span_calls");
    let inner = async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Decision::note(origin, "retried", || "attempt 2 of 3: timed_out".into());
        tokio::time::sleep(Duration::from_millis(60)).await;
        let ends = Ends { end: End::Failure, error: Some("503"), is_slow: false };
        call(Side::Client, "GET /stock", ends, async {}).await.1
    };
    let (child, parent) = call(Side::Server, "POST /orders", End::Success, inner).await;
    let collector = setup.flush().await;

    let (outer, inner) = (collector.named("POST /orders"), collector.named("GET /stock"));
    assert_eq!(collector.spans().len(), 2);
    assert_eq!((outer.kind(), inner.kind()), (SpanKind::Server, SpanKind::Client));
    assert_eq!((outer.trace_id.clone(), outer.parent_span_id.len()), (inner.trace_id.clone(), 0));
    assert_eq!(inner.parent_span_id, outer.span_id);
    let (child, parent) = (child.unwrap(), parent.unwrap());
    assert_eq!(
        (parent.trace.to_vec(), parent.span.to_vec()),
        (outer.trace_id.clone(), outer.span_id.clone())
    );
    assert_eq!(child.span.to_vec(), inner.span_id);

    for (key, value) in [
        ("buttress.name", "orders"),
        ("buttress.end", "success"),
        ("server.address", "db"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(text(&outer.attributes, key).as_deref(), Some(value), "{key}");
    }
    assert_eq!(text(&outer.attributes, "error.type"), None);
    assert_eq!(text(&outer.attributes, "buttress.kept"), None);
    assert_eq!(code(&outer), StatusCode::Unset);
    assert_eq!(text(&inner.attributes, "error.type").as_deref(), Some("503"));
    assert_eq!(code(&inner), StatusCode::Error);

    let [event] = &*outer.events else { panic!("{:?}", outer.events) };
    assert_eq!(event.name, "decision");
    for (key, value) in [
        ("target", "buttress::decision"),
        ("layer", "retry"),
        ("name", "span_calls"),
        ("what", "retried"),
        ("why", "attempt 2 of 3: timed_out"),
    ] {
        assert_eq!(text(&event.attributes, key).as_deref(), Some(value), "{key}");
    }
    let after: f64 = text(&event.attributes, "after_ms").unwrap().parse().unwrap();
    assert!((25.0..85.0).contains(&after), "{after}");
    let (began, ended) = (outer.start_time_unix_nano, outer.end_time_unix_nano);
    assert!(event.time_unix_nano > began + 20_000_000 && event.time_unix_nano + 40_000_000 < ended);
}

#[tokio::test]
async fn a_call_that_is_dropped_ends_when_it_is_dropped() {
    let setup = setup(1.0).await;
    let settings = settings(Side::Client);
    let span = CallSpan::begin(&settings, "dropped", &[]);
    span.enter(|| ());
    tokio::time::sleep(Duration::from_millis(50)).await;
    let end = SpanEnd {
        operation: "dropped",
        attributes: &[],
        end: End::Cancelled,
        error: None,
        latency: Duration::from_millis(50),
        is_slow: false,
        decisions: &[],
    };
    assert!(span.end(&settings, &end).is_some());
    let span = setup.flush().await.named("dropped");
    assert!(span.end_time_unix_nano - span.start_time_unix_nano >= 50_000_000);
    assert_eq!(text(&span.attributes, "buttress.end").as_deref(), Some("cancelled"));
}

#[tokio::test]
async fn a_share_of_the_traces_is_sampled_and_no_part_of_one_alone() {
    let setup = setup(0.3).await;
    for _ in 0..1000 {
        let inner = call(Side::Client, "inner", End::Success, async {});
        let ((_, inner), outer) = call(Side::Server, "outer", End::Success, inner).await;
        assert_eq!(inner.map(|ids| ids.trace), outer.map(|ids| ids.trace));
    }
    let spans = setup.flush().await.spans().len();
    // Six deviations to either side: of a billion runs not one strays further.
    assert!((2 * 213..2 * 387).contains(&spans), "{spans}");
}

#[tokio::test]
async fn text_is_bounded_and_says_no_word_twice() {
    let setup = setup(1.0).await;
    let (settings, long) = (settings(Side::Client), "é".repeat(MAX_TEXT));
    for (operation, label) in [(&*long, Label::Text(long.clone().into())), ("", Label::Number(-1))] {
        let attributes = [("db.query.text", label)];
        let span = CallSpan::begin(&settings, operation, &attributes);
        let end = SpanEnd {
            operation,
            attributes: &attributes,
            end: End::Failure,
            error: Some(&long),
            latency: Duration::ZERO,
            is_slow: false,
            decisions: &[],
        };
        span.end(&settings, &end);
    }
    let collector = setup.flush().await;
    let span = collector.named(&long[..MAX_TEXT]);
    assert_eq!(text(&span.attributes, "db.query.text").unwrap(), &long[..MAX_TEXT]);
    assert_eq!(text(&span.attributes, "error.type").unwrap(), &long[..MAX_TEXT]);
    // Without an operation a span has the layer's name.
    assert_eq!(text(&collector.named("orders").attributes, "db.query.text").as_deref(), Some("-1"));
}

#[tokio::test]
async fn nothing_is_made_where_nobody_listens_or_the_exporter_itself_calls() {
    let fails = || call(Side::Client, "unseen", End::Failure, async {});
    assert_eq!(fails().await.1, None);
    let setup = setup(0.0).await;
    let guard = Context::enter_telemetry_suppressed_scope();
    assert_eq!(fails().await.1, None);
    drop(guard);
    assert!(fails().await.1.is_some());
    assert_eq!(setup.flush().await.spans().len(), 1);
}
