use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::Context;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{BatchSpanProcessor, Span, SpanData, SpanProcessor},
};

use super::watch::Watch;

/// How many ended spans wait or are being exported.
#[derive(Debug, Default)]
pub(super) struct Queue(AtomicUsize);

impl Queue {
    /// More are dropped.
    pub(super) const MAX: usize = 4096;

    fn enter(&self) -> bool {
        let is_in = self.0.fetch_add(1, Relaxed) < Self::MAX;
        if !is_in {
            self.leave(1);
        }
        is_in
    }

    pub(super) fn leave(&self, count: usize) {
        self.0.fetch_sub(count, Relaxed);
    }
}

/// The SDK's batches behind a queue whose losses can be counted. Those of the SDK's own cannot, so nothing is lost there:
/// it has room for all that are let in.
#[derive(Debug)]
pub(super) struct Bounded {
    pub(super) inner: BatchSpanProcessor,
    pub(super) queue: Arc<Queue>,
    pub(super) watch: Arc<Watch>,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.inner.on_end(span);
        } else {
            self.watch.lose(1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
