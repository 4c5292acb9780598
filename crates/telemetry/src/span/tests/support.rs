//! What the telemetry layer does with a span, and a subscriber that sends to a collector.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    time::Duration,
};

use buttress_core::Decisions;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use buttress_testkit::Collector;

use super::super::{CallSpan, SpanEnd, SpanSettings, TraceIds};
use crate::{Flush, Flushed, Label, Side, Telemetry, source::End};

pub(super) struct Setup {
    pub(super) collector: Collector,
    pub(super) telemetry: Telemetry,
    pub(super) _subscriber: DefaultGuard,
}

/// On this thread alone, so the runtime is to have no other.
pub(super) async fn setup(share: f64) -> Setup {
    subscribe(Collector::start().await, None, share)
}

/// What is exported goes to the collector, or to whatever has that address.
pub(super) fn subscribe(collector: Collector, url: Option<&str>, share: f64) -> Setup {
    let url = url.map_or_else(|| collector.url(), str::to_owned);
    let telemetry = Telemetry::builder("test").otlp(&url).sample(share).build().unwrap();
    let subscriber = tracing_subscriber::registry().with(telemetry.tracing_layer()).set_default();
    Setup { collector, telemetry, _subscriber: subscriber }
}

impl Setup {
    /// All spans have been sent.
    pub(super) async fn flush(self) -> Collector {
        let Flushed { spans, spans_lost, .. } = self.telemetry.shutdown(Duration::from_secs(10)).await;
        assert_eq!((spans, spans_lost), (Flush::Sent, 0));
        self.collector
    }
}

pub(super) fn settings(side: Side) -> SpanSettings {
    SpanSettings { name: "orders", side, common: vec![("server.address", Label::Text("db".into()))] }
}

/// How a call is to end.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) end: End,
    pub(super) error: Option<&'static str>,
    pub(super) is_slow: bool,
}

impl From<End> for Ends {
    fn from(end: End) -> Self {
        Self { end, error: None, is_slow: false }
    }
}

/// A call as a telemetry layer sees it.
pub(super) async fn call<F: Future>(
    side: Side,
    operation: &str,
    ends: impl Into<Ends>,
    future: F,
) -> (F::Output, Option<TraceIds>) {
    let ends = ends.into();
    let settings = settings(side);
    let began = tokio::time::Instant::now();
    let attributes = [("http.request.method", Label::Text("GET".into()))];
    let (span, mut decisions) = (CallSpan::begin(&settings, operation, &attributes), Decisions::new());
    let mut future = pin!(future);
    let result = poll_fn(|cx| {
        let poll = AssertUnwindSafe(|| span.enter(|| decisions.collect(|| future.as_mut().poll(cx))));
        match catch_unwind(poll) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => std::task::Poll::Ready(Err(panic)),
        }
    })
    .await;
    let end = if result.is_err() { End::Panicked } else { ends.end };
    let status = ("http.response.status_code", Label::Number(200));
    let end = SpanEnd {
        operation,
        attributes: &[attributes[0].clone(), status],
        end,
        error: ends.error,
        latency: began.elapsed(),
        is_slow: ends.is_slow,
        decisions: decisions.as_slice(),
    };
    let ids = if span.wants_end(end.end, end.is_slow) { span.end(&settings, &end) } else { None };
    match result {
        Ok(output) => (output, ids),
        Err(panic) => resume_unwind(panic),
    }
}
