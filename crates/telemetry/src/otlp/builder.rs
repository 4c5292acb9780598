use std::{fmt, sync::Arc, time::Duration};

use opentelemetry::KeyValue;
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    metrics::{PeriodicReader, SdkMeterProvider},
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider},
};
use tonic::{metadata::MetadataMap, transport::Channel};
use tracing_subscriber::EnvFilter;

use super::{
    MetricsExporter, Telemetry, TelemetryError,
    endpoint::{Collector, TIMEOUT, metadata},
    queue::{Bounded, Queue},
    sampler::Keeping,
    watch::{Watch, Watched},
};
use crate::{Registry, span::Ids};

/// The settings of [`Telemetry`]. They are checked when it is built.
#[must_use = "it does nothing until it is installed or built"]
pub struct TelemetryBuilder {
    service: String,
    attributes: Vec<(String, String)>,
    endpoint: Option<String>,
    headers: Vec<(String, String)>,
    share: f64,
    metrics_every: Duration,
    registry: Option<Registry>,
    log: Option<String>,
}

impl TelemetryBuilder {
    pub(super) fn new(service: &str) -> Self {
        Self {
            service: service.to_owned(),
            attributes: Vec::new(),
            endpoint: None,
            headers: Vec::new(),
            share: 0.1,
            metrics_every: Duration::from_secs(60),
            registry: None,
            log: None,
        }
    }

    /// The service's version: `service.version`. Default: none.
    pub fn version(self, version: &str) -> Self {
        self.attribute("service.version", version)
    }

    /// Something else about this process, such as `deployment.environment.name`. It goes before what the environment
    /// variable `OTEL_RESOURCE_ATTRIBUTES` says.
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.push((key.to_owned(), value.to_owned()));
        self
    }

    /// The collector's address, for OTLP over gRPC: `http://127.0.0.1:4317`. With `https` it takes a feature for TLS.
    /// Default: the environment variable `OTEL_EXPORTER_OTLP_ENDPOINT`, or else `http://127.0.0.1:4317`.
    pub fn otlp(mut self, endpoint: &str) -> Self {
        self.endpoint = Some(endpoint.to_owned());
        self
    }

    /// A header for the collector, such as `authorization`. Its value is never shown.
    pub fn otlp_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The share of traces that are sampled where one begins here, from 0 to 1. Default: 0.1. Calls of a
    /// telemetry layer that went wrong or were slow are kept beyond that.
    pub const fn sample(mut self, share: f64) -> Self {
        self.share = share;
        self
    }

    /// How often metrics are sent, 100 ms at least. Default: every minute.
    pub const fn metrics_every(mut self, interval: Duration) -> Self {
        self.metrics_every = interval;
        self
    }

    /// Sends the figures of that registry's layers. Default: no metrics are sent.
    pub fn registry(mut self, registry: &Registry) -> Self {
        self.registry = Some(registry.clone());
        self
    }

    /// Writes events to standard error too, those that a filter like `info,my_crate=debug` lets pass. It is
    /// [`install`](Self::install) that heeds it. Default: nothing is written.
    pub fn log(mut self, filter: &str) -> Self {
        self.log = Some(filter.to_owned());
        self
    }

    /// Sets up everything, for the whole process: the export, a `tracing` subscriber, OpenTelemetry's global tracer and
    /// meter, and the W3C propagator. Call it once, inside the tokio runtime that lasts: the connection lives there.
    ///
    /// # Errors
    /// When a setting is invalid, when there is no tokio runtime, or when the process has a `tracing` subscriber. Not
    /// when the collector cannot be reached: it may come later.
    pub fn install(self) -> Result<Telemetry, TelemetryError> {
        let filter = self.filter()?;
        let telemetry = self.build()?;
        telemetry.subscribe(filter)?;
        telemetry.make_global();
        Ok(telemetry)
    }

    /// Sets up the export alone: the [layer](Telemetry::tracing_layer) is to be added to a subscriber then. Call it inside
    /// the tokio runtime that lasts.
    ///
    /// # Errors
    /// When a setting is invalid, or when there is no tokio runtime.
    pub fn build(self) -> Result<Telemetry, TelemetryError> {
        self.filter()?;
        if self.service.is_empty() || self.service.len() > 255 {
            return Err(TelemetryError::InvalidServiceName);
        }
        if !(0.0..=1.0).contains(&self.share) {
            return Err(TelemetryError::InvalidShare { share: self.share });
        }
        if self.metrics_every < Duration::from_millis(100) {
            return Err(TelemetryError::InvalidInterval { interval: self.metrics_every });
        }
        let metadata = metadata(&self.headers)?;
        let collector = Collector::try_new(&self.address())?;
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(TelemetryError::NoRuntime);
        }
        let channel = collector.channel();
        let resource = self.resource();
        let spans = Watch::new(Arc::clone(&collector.address));
        let tracers = self.tracers(&channel, metadata.clone(), &resource, &spans)?;
        let meters = self.registry.as_ref().map(|registry| {
            let exporter = MetricsExporter::new(registry.clone(), channel, TIMEOUT).with_headers(metadata);
            let reader = PeriodicReader::builder(exporter).with_interval(self.metrics_every).build();
            let meters = SdkMeterProvider::builder().with_resource(resource).with_reader(reader).build();
            registry.export_to(&opentelemetry::metrics::MeterProvider::meter(&meters, SCOPE));
            meters
        });
        Ok(Telemetry::new(tracers, meters, self.share, spans))
    }

    fn filter(&self) -> Result<Option<EnvFilter>, TelemetryError> {
        let read = |filter: &String| {
            EnvFilter::try_new(filter)
                .map_err(|error| TelemetryError::InvalidFilter { why: error.to_string() })
        };
        self.log.as_ref().map(read).transpose()
    }

    fn address(&self) -> String {
        let given = self.endpoint.clone();
        let from_outside = || std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT").ok().filter(|it| !it.is_empty());
        given.or_else(from_outside).unwrap_or_else(|| "http://127.0.0.1:4317".to_owned())
    }

    /// The SDK reads the environment, and what is given here goes before.
    fn resource(&self) -> Resource {
        let attributes = self.attributes.iter().cloned().map(|(key, value)| KeyValue::new(key, value));
        Resource::builder().with_attributes(attributes).with_service_name(self.service.clone()).build()
    }

    fn tracers(
        &self,
        channel: &Channel,
        metadata: MetadataMap,
        resource: &Resource,
        watch: &Arc<Watch>,
    ) -> Result<SdkTracerProvider, TelemetryError> {
        let inner = SpanExporter::builder()
            .with_tonic()
            .with_channel(channel.clone())
            .with_timeout(TIMEOUT)
            .with_metadata(metadata)
            .build()
            .map_err(|error| TelemetryError::Exporter { why: error.to_string() })?;
        let queue = Arc::new(Queue::default());
        let exporter = Watched { inner, watch: Arc::clone(watch), queue: Arc::clone(&queue) };
        let batches = BatchConfigBuilder::default().with_max_queue_size(Queue::MAX).build();
        let inner = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        Ok(SdkTracerProvider::builder()
            .with_resource(resource.clone())
            .with_sampler(Keeping::new(self.share))
            .with_id_generator(Ids::default())
            .with_span_processor(Bounded { inner, queue, watch: Arc::clone(watch) })
            .build())
    }
}

/// The name under which everything here is measured.
pub(super) const SCOPE: &str = "buttress";

impl fmt::Debug for TelemetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("TelemetryBuilder")
            .field("service", &self.service)
            .field("headers", &headers)
            .field("share", &self.share)
            .field("metrics_every", &self.metrics_every)
            .finish_non_exhaustive()
    }
}
