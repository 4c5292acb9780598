use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{SpanData, SpanExporter},
};

use super::queue::Queue;

/// How the exports of spans go, and what was lost. It tells of each change once, on the exporter's own thread.
#[derive(Debug)]
pub(super) struct Watch {
    endpoint: Arc<str>,
    fails: AtomicBool,
    lost: AtomicU64,
    /// Of these it was told.
    told: AtomicU64,
    /// The time of the shutdown is up.
    is_over: AtomicBool,
}

impl Watch {
    pub(super) fn new(endpoint: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            endpoint,
            fails: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            told: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    pub(super) fn lose(&self, count: usize) {
        self.lost.fetch_add(count as u64, Relaxed);
    }

    /// What is not sent by now is not sent at all, so that the exporter's thread ends.
    pub(super) fn give_up(&self) {
        self.is_over.store(true, Relaxed);
    }

    /// After an export of so many.
    fn exported(&self, count: usize, result: &OTelSdkResult) {
        let (signal, endpoint) = ("spans", &*self.endpoint);
        match result {
            Err(OTelSdkError::AlreadyShutdown) => self.lose(count),
            Err(error) => {
                self.lose(count);
                if !self.fails.swap(true, Relaxed) {
                    self.told.store(self.lost(), Relaxed);
                    tracing::warn!(
                        signal, endpoint, lost = self.lost(), error = %reason(error),
                        "the collector does not take what is exported; all is dropped and counted until it does"
                    );
                }
            }
            Ok(()) => {
                let lost = self.lost();
                let fresh = lost - self.told.swap(lost, Relaxed).min(lost);
                if self.fails.swap(false, Relaxed) {
                    tracing::warn!(signal, endpoint, lost, "the collector takes what is exported again");
                } else if fresh > 0 {
                    tracing::warn!(
                        signal,
                        endpoint,
                        lost,
                        fresh,
                        "the collector is too slow: some was dropped"
                    );
                }
            }
        }
    }
}

/// The errors' own words hold nothing of what the collector said: only gRPC's codes and errors of the transport.
fn reason(error: &OTelSdkError) -> String {
    error.to_string().chars().filter(|c| !c.is_control()).take(300).collect()
}

/// An exporter whose results are watched.
#[derive(Debug)]
pub(super) struct Watched<E> {
    pub(super) inner: E,
    pub(super) watch: Arc<Watch>,
    /// What it has taken out of is counted there.
    pub(super) queue: Arc<Queue>,
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        let result = match self.watch.is_over.load(Relaxed) {
            false => self.inner.export(batch).await,
            true => Err(OTelSdkError::AlreadyShutdown),
        };
        self.queue.leave(count);
        self.watch.exported(count, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
