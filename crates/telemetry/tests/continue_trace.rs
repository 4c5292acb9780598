//! A server that continues its callers' traces. The propagator is the process's, so in a file of its own.
#![cfg(all(feature = "http", feature = "otlp"))]

use std::convert::Infallible;

use buttress_telemetry::ContinueTraceLayer;
use http::{HeaderValue, Request};
use opentelemetry::{Context, global, trace::TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower::{Layer, Service, ServiceExt, service_fn};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The trace and whether it is sampled.
fn current() -> Option<(String, bool)> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| (span.trace_id().to_string(), span.is_sampled()))
    })
}

/// What the service inside sees when it is called, and when it is polled later.
async fn seen(headers: &[(&'static str, &str)]) -> [Option<(String, bool)>; 2] {
    let inner = service_fn(|_: Request<()>| {
        let at_call = current();
        async move {
            tokio::task::yield_now().await;
            Ok::<_, Infallible>([at_call, current()])
        }
    });
    let mut request = Request::new(());
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    let mut service = ContinueTraceLayer::new().layer(inner);
    let call = service.ready().await.unwrap().call(request);
    assert_eq!(current(), None, "what surrounds the call is restored");
    let seen = call.await.unwrap();
    assert_eq!(current(), None, "what surrounds the call is restored");
    seen
}

#[tokio::test]
async fn a_server_continues_what_it_can_read_and_nothing_else() {
    global::set_text_map_propagator(TraceContextPropagator::new());
    for is_sampled in [true, false] {
        let header = format!("00-{TRACE}-00f067aa0ba902b7-0{}", u8::from(is_sampled));
        let expected = Some((TRACE.to_owned(), is_sampled));
        let seen = seen(&[("traceparent", &header), ("tracestate", "a=1")]).await;
        assert_eq!(seen, [expected.clone(), expected]);
    }
    let good = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let long = "0".repeat(60_000);
    for headers in [
        &[][..],
        &[("traceparent", "")],
        &[("traceparent", "00-00000000000000000000000000000000-00f067aa0ba902b7-01")],
        &[("traceparent", &good[..40])],
        &[("traceparent", "00-\u{e9}bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01")],
        &[("traceparent", &long)],
        &[("traceparent", &good), ("traceparent", &good)],
    ] {
        assert_eq!(seen(headers).await, [None, None], "{headers:?}");
    }
    // A state that cannot be read does not cost the trace.
    let seen = seen(&[("traceparent", &good), ("tracestate", "=,=")]).await;
    assert_eq!(seen[0], Some((TRACE.to_owned(), true)));
}

#[tokio::test]
async fn a_state_in_several_headers_is_one_in_their_order() {
    global::set_text_map_propagator(TraceContextPropagator::new());
    let state = || Context::map_current(|context| context.span().span_context().trace_state().header());
    let inner = service_fn(move |_: Request<()>| async move { Ok::<_, Infallible>(state()) });
    let mut request = Request::new(());
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    for (name, value) in [("traceparent", &*parent), ("tracestate", "a=1,b=2"), ("tracestate", "c=3")] {
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    let state = ContinueTraceLayer::new().layer(inner).oneshot(request).await.unwrap();
    assert_eq!(state, "a=1,b=2,c=3");
}
