#[cfg(feature = "proxy")]
use std::sync::Arc;

use buttress_core::Setting;
use http::{HeaderName, Request};

use crate::{builder::Builder, settings::on};

/// What a client adds to the headers of each request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outgoing {
    deadline: Option<HeaderName>,
    #[cfg(feature = "opentelemetry")]
    trace: bool,
    #[cfg(feature = "proxy")]
    proxy: Option<Arc<hyper_util::client::proxy::matcher::Matcher>>,
}

impl Builder {
    /// Sends on the caller's [`Deadline`](buttress_core::Deadline): in this header, the milliseconds that are left when
    /// the call is made. It is not by default. [`EXPECTED_TIMEOUT`](crate::EXPECTED_TIMEOUT) is the header that Envoy
    /// uses. A request that has it already keeps its own; without a deadline nothing is sent.
    pub fn deadline_header(mut self, name: HeaderName) -> Self {
        self.outgoing.deadline = Some(name);
        self
    }

    /// Whether each call carries the trace context that is current when it is made (`opentelemetry::Context::current()`),
    /// as the propagator of the process writes it: `traceparent` and `tracestate` by the W3C's. It does not by default.
    ///
    /// What a request has already is kept; one with its own `traceparent` gets no `tracestate` either. Without a
    /// propagator, or outside a span, nothing is sent.
    #[cfg(feature = "opentelemetry")]
    pub fn trace_context(mut self, sent: bool) -> Self {
        self.outgoing.trace = sent;
        self
    }
}

impl Outgoing {
    #[cfg(feature = "proxy")]
    pub(crate) fn for_proxy(mut self, proxy: Option<&crate::proxy::Proxy>) -> Self {
        self.proxy = proxy.map(|proxy| Arc::new(proxy.matcher()));
        self
    }

    pub(crate) fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        visit(Setting::new("deadline_header", on(self.deadline.is_some())));
        #[cfg(feature = "opentelemetry")]
        visit(Setting::new("trace_context", on(self.trace)));
    }

    /// `None` where there is nothing to add.
    pub(crate) fn if_any(self) -> Option<Self> {
        let any = self.deadline.is_some();
        #[cfg(feature = "opentelemetry")]
        let any = any || self.trace;
        #[cfg(feature = "proxy")]
        let any = any || self.proxy.is_some();
        any.then_some(self)
    }

    pub(crate) fn add_to<B>(&self, request: &mut Request<B>) {
        if let Some(name) = &self.deadline {
            crate::deadline_header::send_on(request.headers_mut(), name);
        }
        #[cfg(feature = "opentelemetry")]
        if self.trace {
            crate::trace_context::send_on(request.headers_mut());
        }
        #[cfg(feature = "proxy")]
        if let Some(matcher) = &self.proxy
            && let Some(authorization) = crate::proxy::authorization(matcher, request.uri())
        {
            request.headers_mut().entry(http::header::PROXY_AUTHORIZATION).or_insert(authorization);
        }
    }
}
