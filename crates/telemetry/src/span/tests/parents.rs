use std::collections::HashMap;

use opentelemetry::{Context, propagation::TextMapPropagator, trace::TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Instrument;

use super::{
    received::{Received, text},
    support::{call, setup},
};
use crate::{Side, source::End};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// The context that a request with that header brings.
fn incoming(is_sampled: bool) -> Context {
    let header = format!("00-{TRACE}-{PARENT}-0{}", u8::from(is_sampled));
    let headers =
        HashMap::from([("traceparent".to_owned(), header), ("tracestate".into(), "vendor=1".into())]);
    TraceContextPropagator::new().extract(&headers)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes a call inside that context.
async fn inside(context: Context, name: &str, end: End) {
    let future = call(Side::Server, name, end, async {});
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        let _guard = context.clone().attach();
        future.as_mut().poll(cx)
    })
    .await;
}

#[tokio::test]
async fn a_sampled_parent_is_followed_whatever_the_share() {
    let setup = setup(0.0).await;
    inside(incoming(true), "follows", End::Success).await;
    let span = setup.flush().await.named("follows");
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(span.trace_state, "vendor=1");
    assert_eq!(text(&span.attributes, "buttress.kept"), None);
}

#[tokio::test]
async fn an_unsampled_parent_is_followed_too_but_what_fails_is_kept_below_it() {
    let setup = setup(1.0).await;
    inside(incoming(false), "follows", End::Success).await;
    inside(incoming(false), "fails", End::Failure).await;
    let collector = setup.flush().await;
    assert_eq!(collector.spans().len(), 1);
    let span = collector.named("fails");
    assert_eq!((hex(&span.trace_id), hex(&span.parent_span_id)), (TRACE.into(), PARENT.into()));
    assert_eq!(span.trace_state, "vendor=1");
    assert_eq!(text(&span.attributes, "buttress.kept").as_deref(), Some("true"));
}

#[tokio::test]
async fn a_parent_from_outside_goes_before_a_trace_that_was_begun_here() {
    let setup = setup(1.0).await;
    let inner = async {
        // It continues the values of the call's own context.
        let context = Context::current();
        let remote = incoming(false).span().span_context().clone();
        let context = context.with_remote_span_context(remote);
        inside(context.clone(), "inner", End::Success).await;
        let _guard = context.attach();
        tracing::info_span!("inside").in_scope(|| ());
    };
    call(Side::Server, "outer", End::Success, inner).await;
    let names: Vec<_> = setup.flush().await.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["outer"]);
}

#[tokio::test]
async fn spans_of_the_program_and_of_calls_are_one_trace() {
    let setup = setup(1.0).await;
    let handler = async {
        call(Side::Client, "call", End::Success, async {
            tracing::info_span!("inside").in_scope(|| ());
        })
        .await;
    };
    handler.instrument(tracing::info_span!("handler")).await;
    let collector = setup.flush().await;
    let [handler, call, inside] = ["handler", "call", "inside"].map(|name| collector.named(name));
    assert_eq!((&call.parent_span_id, &inside.parent_span_id), (&handler.span_id, &call.span_id));
    assert_eq!((&call.trace_id, &inside.trace_id), (&handler.trace_id, &handler.trace_id));
}
