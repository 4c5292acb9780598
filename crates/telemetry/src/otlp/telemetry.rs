use std::{fmt, io, io::IsTerminal, sync::Arc, time::Duration};

use opentelemetry::{global, trace::TracerProvider};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    metrics::SdkMeterProvider,
    propagation::TraceContextPropagator,
    trace::SdkTracerProvider,
};
use tokio::{sync::oneshot, time::Instant};
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, registry::LookupSpan};

use super::{TelemetryBuilder, TelemetryError, builder::SCOPE, watch::Watch};
use crate::span::Head;

/// Traces and metrics on their way to a collector.
///
/// Keep it as long as the program runs, and [shut it down](Self::shutdown) at the end, so that what waits is sent. A
/// collector that is down, slow or wrong neither slows nor fails a call: at most 4,096 spans wait, what does not fit is
/// dropped and counted, and a warning of `tracing` tells when that begins and ends.
///
/// Dropped without a shutdown it sends what waits in the background, as long as the process and its runtime live. It does
/// not block.
#[must_use = "dropped, it stops sending"]
pub struct Telemetry {
    tracers: SdkTracerProvider,
    meters: Option<SdkMeterProvider>,
    share: f64,
    spans: Arc<Watch>,
    is_over: bool,
}

/// What became of all that waited when telemetry was shut down.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flushed {
    /// Of the spans.
    pub spans: Flush,
    /// Of the metrics.
    pub metrics: Flush,
    /// How many spans were lost since the beginning, because the collector was down or too slow.
    pub spans_lost: u64,
}

/// What became of one signal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flush {
    /// The collector has taken it, or nothing waited.
    Sent,
    /// It is not exported.
    Off,
    /// The collector had not taken it when the time was up.
    TimedOut,
    /// The collector did not take it, or not all of it.
    Failed(String),
}

impl Telemetry {
    /// Begins to set up telemetry for a service of that name, `service.name`.
    pub fn builder(service: &str) -> TelemetryBuilder {
        TelemetryBuilder::new(service)
    }

    pub(super) const fn new(
        tracers: SdkTracerProvider,
        meters: Option<SdkMeterProvider>,
        share: f64,
        spans: Arc<Watch>,
    ) -> Self {
        Self { tracers, meters, share, spans, is_over: false }
    }

    /// A layer for a subscriber of one's own, that [`install`](TelemetryBuilder::install) would make otherwise: it sends
    /// spans of the level `INFO` and above, with the events in them.
    ///
    /// It is found by type, so do not put it into `tracing_subscriber::reload`: spans are sent then too, but calls that
    /// went wrong are not kept beyond the share.
    pub fn tracing_layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let tracer = self.tracers.tracer(SCOPE);
        // What the exporter's own HTTP says is below that level, so it is not exported in turn.
        tracing_opentelemetry::layer()
            .with_tracer(tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .and_then(Head { ratio: self.share, tracer })
            .with_filter(LevelFilter::INFO)
    }

    /// Makes this the process's tracer and meter, for libraries that ask OpenTelemetry for them, and W3C's trace context
    /// the propagator, which clients ask for. [`install`](TelemetryBuilder::install) does it.
    pub fn make_global(&self) {
        global::set_text_map_propagator(TraceContextPropagator::new());
        global::set_tracer_provider(self.tracers.clone());
        if let Some(meters) = &self.meters {
            global::set_meter_provider(meters.clone());
        }
    }

    /// How many spans were lost since the beginning, because the collector was down or too slow.
    #[must_use]
    pub fn spans_lost(&self) -> u64 {
        self.spans.lost()
    }

    /// Sends what waits and ends. It returns after `deadline` at the latest.
    ///
    /// Dropping the future makes no difference to what is sent.
    pub async fn shutdown(mut self, deadline: Duration) -> Flushed {
        let deadline = deadline.min(MAX_DEADLINE);
        let until = Instant::now() + deadline;
        let (spans, metrics) = self.end(deadline);
        let spans = finish(Some(spans), until).await;
        let metrics = finish(metrics, until).await;
        Flushed { spans, metrics, spans_lost: self.spans.lost() }
    }

    pub(super) fn subscribe(&self, filter: Option<EnvFilter>) -> Result<(), TelemetryError> {
        let log = filter.map(|filter| {
            tracing_subscriber::fmt::layer()
                .with_ansi(io::stderr().is_terminal())
                .with_writer(io::stderr)
                .with_filter(filter)
        });
        let subscriber = tracing_subscriber::registry().with(self.tracing_layer()).with(log);
        tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadyInstalled)
    }

    /// The SDK blocks until all is sent, so it gets threads of its own.
    fn end(&mut self, deadline: Duration) -> (Ending, Option<Ending>) {
        self.is_over = true;
        let (tracers, watch) = (self.tracers.clone(), Arc::clone(&self.spans));
        let spans = aside(move || {
            let before = watch.lost();
            let result = tracers.shutdown_with_timeout(deadline);
            watch.give_up();
            // The SDK tells of the last batch alone.
            match watch.lost() - before {
                0 => result,
                lost => {
                    result.and(Err(OTelSdkError::InternalFailure(format!("{lost} spans were not taken"))))
                }
            }
        });
        let meters = self.meters.clone();
        let metrics = meters.map(|meters| aside(move || meters.shutdown_with_timeout(deadline)));
        (spans, metrics)
    }
}

/// Whoever waits longer waits for ever.
const MAX_DEADLINE: Duration = Duration::from_secs(24 * 60 * 60);

type Ending = oneshot::Receiver<OTelSdkResult>;

fn aside(end: impl FnOnce() -> OTelSdkResult + Send + 'static) -> Ending {
    let (told, ending) = oneshot::channel();
    // Without a thread the receiver sees a closed channel.
    _ = std::thread::Builder::new().name("telemetry-end".into()).spawn(move || {
        // Nobody may wait any more.
        _ = told.send(end());
    });
    ending
}

async fn finish(ending: Option<Ending>, until: Instant) -> Flush {
    let Some(ending) = ending else { return Flush::Off };
    match tokio::time::timeout_at(until, ending).await {
        Err(_) | Ok(Ok(Err(OTelSdkError::Timeout(_)))) => Flush::TimedOut,
        Ok(Ok(Ok(()))) => Flush::Sent,
        Ok(Ok(Err(error))) => Flush::Failed(error.to_string()),
        Ok(Err(_)) => Flush::Failed("the thread that sends it has died".into()),
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if !self.is_over {
            self.end(super::endpoint::TIMEOUT);
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("share", &self.share)
            .field("metrics", &self.meters.is_some())
            .field("spans_lost", &self.spans_lost())
            .finish_non_exhaustive()
    }
}
