use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{Context, global, propagation::Injector};

/// Writes the current trace context as the process's propagator says.
pub(crate) fn send_on(headers: &mut HeaderMap) {
    let own_trace = headers.contains_key(TRACEPARENT);
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&Context::current(), &mut Carrier { headers: &mut *headers, own_trace });
    });
}

const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";

struct Carrier<'a> {
    headers: &'a mut HeaderMap,
    /// The caller speaks of a trace of his own, to which no other's state belongs.
    own_trace: bool,
}

impl Injector for Carrier<'_> {
    fn set(&mut self, key: &str, value: String) {
        if self.own_trace && key.eq_ignore_ascii_case(TRACESTATE) {
            return;
        }
        // What is no header cannot be sent, and a call does not fail for want of a trace.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.headers.entry(name).or_insert(value);
        }
    }
}
