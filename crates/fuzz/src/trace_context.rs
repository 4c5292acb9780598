use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::pin,
    sync::LazyLock,
    task::{Context, Poll, Waker},
};

use buttress_telemetry::ContinueTraceLayer;
use http::Request;
use opentelemetry::{
    global,
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tower_layer::Layer;
use tower_service::Service;

use crate::{cost::bounded, head::Head};

static PROPAGATOR: LazyLock<()> =
    LazyLock::new(|| global::set_text_map_propagator(TraceContextPropagator::new()));

/// W3C's `traceparent` and `tracestate`: a trace is continued exactly where a naive model of the first version reads one, and a
/// caller without one stays without.
///
/// The input: the fields of a request, a line each.
///
/// # Panics
/// Where that does not hold.
pub fn trace_context(data: &[u8]) {
    LazyLock::force(&PROPAGATOR);
    let [asked] = Head::read(data);
    let mut request = Request::new(());
    *request.headers_mut() = asked.fields.clone();
    let seen = bounded(data, 16 << 10, 64, || {
        let mut service = ContinueTraceLayer::new().layer(Inner);
        let Poll::Ready(Ok(seen)) = pin!(service.call(request)).poll(&mut Context::from_waker(Waker::noop()))
        else {
            panic!("it is ready at once")
        };
        seen
    });
    assert!(!opentelemetry::Context::current().span().span_context().is_valid(), "nothing is left behind");
    let mut parents = asked.values("traceparent");
    let (first, second) = (parents.next(), parents.next());
    match (first, second) {
        (Some(parent), None) => match naive(parent) {
            Some((trace, span, sampled)) => {
                assert!(seen.is_valid() && seen.is_remote(), "{asked:?}");
                let read = (seen.trace_id().to_string(), seen.span_id().to_string(), seen.is_sampled());
                assert_eq!(read, (trace, span, sampled), "{asked:?}");
            }
            // A later version may be read, as far as it is the same; and OpenTelemetry's propagator takes fewer digits.
            None => assert!(
                parent.iter().filter(|byte| **byte == b'-').count() >= 3 || !seen.is_valid(),
                "{asked:?}"
            ),
        },
        // Nobody knows which.
        _ => assert!(!seen.is_valid(), "{asked:?}"),
    }
}

/// Of version 00, by its letters.
fn naive(parent: &[u8]) -> Option<(String, String, bool)> {
    let parent = std::str::from_utf8(parent).ok()?;
    let parts: Vec<&str> = parent.split('-').collect();
    let ["00", trace, span, flags] = parts[..] else { return None };
    let is_hex = |text: &str, length| {
        text.len() == length && text.chars().all(|char| matches!(char, '0'..='9' | 'a'..='f'))
    };
    let is_zero = |text: &str| text.chars().all(|char| char == '0');
    if !(is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2)) || is_zero(trace) || is_zero(span) {
        return None;
    }
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    Some((trace.to_owned(), span.to_owned(), sampled))
}

/// Answers with the trace that it stands in.
struct Inner;

impl Service<Request<()>> for Inner {
    type Response = SpanContext;
    type Error = Infallible;
    type Future = Ready<Result<SpanContext, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(opentelemetry::Context::current().span().span_context().clone()))
    }
}
