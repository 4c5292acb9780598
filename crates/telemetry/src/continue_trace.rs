use std::{
    future::Future,
    pin::Pin,
    task::{self, Poll},
};

use http::{HeaderMap, Request};
use opentelemetry::{Context, global, propagation::Extractor, trace::TraceContextExt};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Continues the traces that a server's callers began: the outermost layer of a server, around its telemetry layer.
///
/// What comes in is read as the process's propagator says: by the W3C's headers `traceparent` and `tracestate` once
/// [`Telemetry`](crate::Telemetry) is installed. A caller decides by them whether calls are recorded, so leave it out where
/// anybody may call. What cannot be read is as if it was not there.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ContinueTraceLayer;

impl ContinueTraceLayer {
    /// The layer. It has no settings.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for ContinueTraceLayer {
    type Service = ContinueTrace<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ContinueTrace(inner)
    }
}

/// The service of [`ContinueTraceLayer`].
#[derive(Debug, Clone)]
pub struct ContinueTrace<S>(S);

impl<S, B> Service<Request<B>> for ContinueTrace<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ContinueTraceFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut task::Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = global::get_text_map_propagator(|propagator| {
            propagator.extract_with_context(&Context::current(), &Headers::new(request.headers()))
        });
        let context = context.span().span_context().is_remote().then_some(context);
        let _guard = context.clone().map(Context::attach);
        ContinueTraceFuture { inner: self.0.call(request), context }
    }
}

pin_project! {
    /// The future of [`ContinueTrace`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ContinueTraceFuture<F> {
        #[pin]
        inner: F,
        context: Option<Context>,
    }
}

impl<F: Future> Future for ContinueTraceFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _guard = this.context.clone().map(Context::attach);
        this.inner.poll(cx)
    }
}

struct Headers<'a> {
    all: &'a HeaderMap,
    /// Of several, for a caller and the proxies behind it may each add one.
    state: Option<String>,
}

const STATE: &str = "tracestate";

impl<'a> Headers<'a> {
    fn new(all: &'a HeaderMap) -> Self {
        let states: Vec<&str> = all.get_all(STATE).iter().filter_map(|state| state.to_str().ok()).collect();
        Self { all, state: (states.len() > 1).then(|| states.join(",")) }
    }
}

impl Extractor for Headers<'_> {
    /// A header that is there twice says nothing: the W3C allows one `traceparent`. Of `tracestate` it allows several, which
    /// are one in their order.
    fn get(&self, key: &str) -> Option<&str> {
        if key == STATE && self.state.is_some() {
            return self.state.as_deref();
        }
        let mut values = self.all.get_all(key).iter();
        let value = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(value)
    }

    fn keys(&self) -> Vec<&str> {
        self.all.keys().map(http::HeaderName::as_str).collect()
    }
}
