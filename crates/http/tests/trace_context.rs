//! The trace context goes out with each call. In a file of its own: the propagator is the process's.
#![cfg(feature = "opentelemetry")]

mod support;

use std::collections::HashMap;

use buttress_http::{Builder, HttpClient};
use http::{HeaderValue, Request};
use opentelemetry::{
    Context, ContextGuard, global,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use support::{Body, build, get, proxies::echo, read};
use tower::ServiceExt;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;

fn enter(span: u64) -> ContextGuard {
    let context = SpanContext::new(
        TraceId::from(TRACE),
        SpanId::from(span),
        TraceFlags::SAMPLED,
        true,
        TraceState::from_key_value([("vendor", "state")]).unwrap(),
    );
    Context::current().with_remote_span_context(context).attach()
}

/// The headers that a server sees.
async fn seen(
    call: impl Future<Output = Result<http::Response<buttress_http::ResponseBody>, buttress_http::Error>>,
) -> HashMap<String, String> {
    let head = read(call.await.unwrap().into_body()).await.unwrap();
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test]
async fn each_call_carries_the_context_that_is_current_when_it_is_made() {
    let url = format!("http://{}/", echo().await);
    let client = |builder: Builder| build(builder.trace_context(true));
    let on = client(HttpClient::builder());
    // The context is a thread's, so each call is made inside it and awaited outside.
    let make = |client: &support::Client, span: u64, request: Request<Body>| {
        let mut client = client.clone();
        let _guard = enter(span);
        tower::Service::call(&mut client, request)
    };

    assert!(!seen(make(&on, 1, get(&url))).await.contains_key("traceparent"), "without a propagator");
    global::set_text_map_propagator(TraceContextPropagator::new());

    for span in [1, 2] {
        let headers = seen(make(&on, span, get(&url))).await;
        assert_eq!(headers["traceparent"], format!("00-{TRACE:032x}-{span:016x}-01"));
        assert_eq!(headers["tracestate"], "vendor=state");
    }

    let off = build(HttpClient::builder());
    assert!(!seen(make(&off, 1, get(&url))).await.contains_key("traceparent"), "it is off by default");
    let outside = on.clone().oneshot(get(&url));
    assert!(!seen(outside).await.contains_key("traceparent"), "outside a span");

    let own = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = get(&url);
    request.headers_mut().insert("traceparent", HeaderValue::from_static(own));
    let headers = seen(make(&on, 1, request)).await;
    assert_eq!(headers["traceparent"], own, "the caller's own is kept");
    assert!(!headers.contains_key("tracestate"), "and not mixed with another trace's state");
}
