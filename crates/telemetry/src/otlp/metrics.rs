use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use opentelemetry_proto::tonic::{
    collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest,
        metrics_service_client::MetricsServiceClient,
    },
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    metrics::v1::{
        AggregationTemporality, Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Metric,
        ScopeMetrics, exemplar, exponential_histogram_data_point::Buckets, metric::Data,
    },
};
use opentelemetry_sdk::{
    error::{OTelSdkError, OTelSdkResult},
    metrics::{Temporality, data::ResourceMetrics, exporter::PushMetricExporter},
};
use tokio::{runtime::Handle, task::JoinSet};
use tonic::{Extensions, Request, Status, metadata::MetadataMap, transport::Channel};

use super::split::split;
use crate::{
    Label, Registry, Sketch,
    latencies::{self, Distribution},
    naming,
    registry::WeakRegistry,
};

/// Sends what a meter provider collected by OTLP over gRPC, and with it the latencies of all telemetry layers of a registry,
/// as exponential histograms with exemplars: the SDK has no instrument for what is counted already.
///
/// It is for a meter provider of your own, together with [`Registry::export_to`]; a reader asks it for nothing as long as the
/// provider has no instrument.
///
/// Nothing is queued and nothing sent twice: all is cumulative, so what could not be sent is in the next export. A `tracing`
/// event tells when sending begins to fail and when it works again. Requests are of about 2 MiB at most; a collector takes
/// 4 MiB by default. The registry is not kept alive.
pub struct MetricsExporter {
    registry: WeakRegistry,
    client: MetricsServiceClient<Channel>,
    /// With every request.
    headers: MetadataMap,
    /// For all requests of one export together.
    timeout: Duration,
    /// A reader exports from a thread of its own, where no timer runs.
    runtime: Handle,
    is_failing: AtomicBool,
    is_shut_down: AtomicBool,
}

/// So large are requests at most, about.
const MAX_REQUEST: usize = 2 << 20;

/// What the SDK's meter and this one say who measured.
const SCOPE: &str = "buttress";

impl MetricsExporter {
    /// Sends over that channel. `timeout` is for all requests of one export together; the export then fails.
    ///
    /// # Panics
    /// Outside of a tokio runtime. Its timer is used, since a reader exports from a thread without one; so the runtime must
    /// not be blocked while a provider is flushed or shut down: call these by `spawn_blocking`.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "it is kept, though weakly")]
    pub fn new(registry: Registry, channel: Channel, timeout: Duration) -> Self {
        Self {
            registry: registry.downgrade(),
            client: MetricsServiceClient::new(channel),
            headers: MetadataMap::new(),
            timeout,
            runtime: Handle::current(),
            is_failing: AtomicBool::new(false),
            is_shut_down: AtomicBool::new(false),
        }
    }

    /// With these headers in every request.
    #[must_use]
    pub(crate) fn with_headers(mut self, headers: MetadataMap) -> Self {
        self.headers = headers;
        self
    }

    fn request(&self, metrics: &ResourceMetrics) -> ExportMetricsServiceRequest {
        let mut request = ExportMetricsServiceRequest::from(metrics);
        let Some(registry) = self.registry.upgrade() else { return request };
        let latencies = latency_metrics(&registry, crate::wall::now());
        if latencies.is_empty() {
            return request;
        }
        if request.resource_metrics.is_empty() {
            request.resource_metrics.push(Default::default());
        }
        let scopes = &mut request.resource_metrics[0].scope_metrics;
        let is_ours =
            |scope: &&mut ScopeMetrics| scope.scope.as_ref().is_some_and(|scope| scope.name == SCOPE);
        match scopes.iter_mut().find(is_ours) {
            Some(ours) => ours.metrics.extend(latencies),
            None => scopes.push(ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: SCOPE.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics: latencies,
                ..ScopeMetrics::default()
            }),
        }
        request
    }

    /// Tells when it begins to fail and when it works again, not every time.
    fn note(&self, result: &OTelSdkResult) {
        match result {
            Ok(()) if self.is_failing.swap(false, Relaxed) => {
                tracing::info!("metrics are exported again; counts are cumulative, so none is missing");
            }
            Err(error) if !self.is_failing.swap(true, Relaxed) => {
                tracing::warn!(%error, "metrics are not exported: check the collector and its address");
            }
            _ => {}
        }
    }
}

impl PushMetricExporter for MetricsExporter {
    async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
        if self.is_shut_down.load(Relaxed) {
            return Err(OTelSdkError::AlreadyShutdown);
        }
        let requests = split(self.request(metrics), MAX_REQUEST);
        let (client, headers, timeout) = (self.client.clone(), self.headers.clone(), self.timeout);
        // Dropped with this future, and over with the runtime.
        let mut sending = JoinSet::new();
        let all = async move { tokio::time::timeout(timeout, send_all(client, headers, requests)).await };
        sending.spawn_on(all, &self.runtime);
        let result = match sending.join_next().await {
            Some(Ok(Ok(result))) => result,
            Some(Ok(Err(_elapsed))) => Err(OTelSdkError::Timeout(timeout)),
            Some(Err(_)) | None => Err(OTelSdkError::InternalFailure(
                "metrics cannot be sent: the tokio runtime of the exporter is gone".to_owned(),
            )),
        };
        self.note(&result);
        result
    }

    /// Nothing is held back.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _timeout: Duration) -> OTelSdkResult {
        if self.is_shut_down.swap(true, Relaxed) { Err(OTelSdkError::AlreadyShutdown) } else { Ok(()) }
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}

impl fmt::Debug for MetricsExporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetricsExporter").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

async fn send_all(
    mut client: MetricsServiceClient<Channel>,
    headers: MetadataMap,
    requests: Vec<ExportMetricsServiceRequest>,
) -> OTelSdkResult {
    let mut result = Ok(());
    for request in requests {
        let request = Request::from_parts(headers.clone(), Extensions::default(), request);
        let answer = client.export(request).await.map_err(|status| refused(&status))?;
        // The others are of use without it.
        if let Some(partial) = answer.into_inner().partial_success.filter(|it| it.rejected_data_points > 0) {
            result = Err(incomplete(&partial));
        }
    }
    result
}

fn refused(status: &Status) -> OTelSdkError {
    let message = naming::value(status.message());
    OTelSdkError::InternalFailure(format!(
        "the collector did not take metrics: {:?}, {message:?}",
        status.code()
    ))
}

fn incomplete(partial: &ExportMetricsPartialSuccess) -> OTelSdkError {
    let message = naming::value(&partial.error_message);
    OTelSdkError::InternalFailure(format!(
        "the collector could not use {} data points: {message:?}",
        partial.rejected_data_points
    ))
}

/// One metric for each name, in their order.
fn latency_metrics(registry: &Registry, now: SystemTime) -> Vec<Metric> {
    let mut distributions = latencies::read(registry);
    distributions.sort_by_key(|distribution| distribution.metric);
    let of_one_name = distributions.chunk_by(|a, b| a.metric == b.metric);
    of_one_name
        .map(|all| Metric {
            name: all[0].metric.to_owned(),
            description: "How long calls took.".to_owned(),
            unit: "s".to_owned(),
            metadata: Vec::new(),
            data: Some(Data::ExponentialHistogram(ExponentialHistogram {
                data_points: all.iter().map(|one| data_point(one, now)).collect(),
                aggregation_temporality: AggregationTemporality::Cumulative.into(),
            })),
        })
        .collect()
}

fn data_point(distribution: &Distribution, now: SystemTime) -> ExponentialHistogramDataPoint {
    let latencies = &distribution.latencies;
    let count = latencies.count();
    let mut positive = Buckets::default();
    for (index, _, count) in latencies.buckets() {
        if positive.bucket_counts.is_empty() {
            positive.offset = index;
        }
        // Those between are empty.
        positive.bucket_counts.resize((index - positive.offset) as usize, 0);
        positive.bucket_counts.push(count);
    }
    ExponentialHistogramDataPoint {
        attributes: distribution.attributes.iter().map(attribute).collect(),
        start_time_unix_nano: unix_nanos(distribution.since),
        time_unix_nano: unix_nanos(now),
        count,
        sum: Some(latencies.sum()),
        scale: Sketch::SCALE,
        zero_count: latencies.zeros(),
        positive: Some(positive),
        negative: None,
        flags: 0,
        exemplars: distribution.exemplars.iter().map(exemplar).collect(),
        // The shortest is not known.
        min: None,
        max: (count > 0).then(|| latencies.max().as_secs_f64()),
        zero_threshold: Sketch::ZERO,
    }
}

fn attribute((key, label): &(&'static str, Label)) -> KeyValue {
    let value = match label {
        Label::Text(text) => any_value::Value::StringValue(text.to_string()),
        Label::Number(number) => any_value::Value::IntValue(*number),
    };
    KeyValue { key: (*key).to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn exemplar(exemplar: &crate::source::Exemplar) -> Exemplar {
    Exemplar {
        filtered_attributes: Vec::new(),
        time_unix_nano: unix_nanos(exemplar.at),
        span_id: exemplar.span_id.to_vec(),
        trace_id: exemplar.trace_id.to_vec(),
        value: Some(exemplar::Value::AsDouble(exemplar.seconds)),
    }
}

fn unix_nanos(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use buttress_testkit::Collector;
    use opentelemetry::metrics::MeterProvider;
    use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
    use tonic::transport::Endpoint;

    use super::*;
    use crate::latencies::tests::Fixed;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test(flavor = "multi_thread")]
    async fn latencies_arrive_as_exponential_histograms_with_exemplars() {
        let (registry, collector) = (Registry::new(), Collector::start().await);
        // Twice each: one nothing, one of a nanosecond more than a bound, and one too long for any bucket.
        let _one = Fixed::register(&registry, "histograms-a", &[3, 500_000_001, 600_000_000_000]);
        let _other = Fixed::register(&registry, "histograms-b", &[1_000_000]);
        let channel = Endpoint::from_shared(collector.url()).unwrap().connect_lazy();
        let exporter = MetricsExporter::new(registry.clone(), channel, SOON);
        let reader = PeriodicReader::builder(exporter).with_interval(SOON * 1000).build();
        let provider = SdkMeterProvider::builder().with_reader(reader).build();
        registry.export_to(&provider.meter(SCOPE));
        let flushed = tokio::task::spawn_blocking(move || provider.force_flush()).await.unwrap();
        flushed.unwrap();

        let received = collector.metric("http.client.request.duration", SOON).await;
        assert_eq!((&*received.metric.unit, &*received.scope.name), ("s", "buttress"));
        let Some(Data::ExponentialHistogram(histogram)) = received.metric.data else {
            panic!("no histogram")
        };
        assert_eq!(histogram.aggregation_temporality(), AggregationTemporality::Cumulative);
        assert_eq!(histogram.data_points.len(), 2);
        let point = &histogram.data_points[0];
        let name = KeyValue {
            key: "buttress.name".into(),
            value: Some(AnyValue { value: Some(any_value::Value::StringValue("histograms-a".into())) }),
            ..KeyValue::default()
        };
        assert!(point.attributes.contains(&name) && point.attributes.len() == 3, "{:?}", point.attributes);
        assert_eq!((point.count, point.zero_count, point.scale), (6, 2, 4));
        assert!((point.zero_threshold - f64::exp2(-24.0)).abs() < f64::EPSILON);
        assert!((point.sum.unwrap() - 1201.0).abs() < 0.001, "{:?}", point.sum);
        assert_eq!((point.min, point.max), (None, Some(600.0)));
        // 2^(-16/16) is half a second: the bucket above it. The last one ends at 2^(144/16).
        let buckets = point.positive.as_ref().unwrap();
        assert_eq!((buckets.offset, buckets.bucket_counts.len()), (-16, 160));
        assert_eq!((buckets.bucket_counts[0], buckets.bucket_counts[159]), (2, 2));
        assert_eq!(buckets.bucket_counts.iter().sum::<u64>(), 4);
        assert_eq!(point.start_time_unix_nano, 7_000_000_000);
        assert!(point.time_unix_nano > 1_700_000_000_000_000_000);
        let exemplar = &point.exemplars[0];
        assert_eq!((&*exemplar.trace_id, &*exemplar.span_id), (&[1; 16][..], &[2; 8][..]));
        assert_eq!(exemplar.value, Some(exemplar::Value::AsDouble(0.25)));
        assert_eq!(exemplar.time_unix_nano, 9_000_000_000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_runtime_that_is_gone_is_an_error() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let collector = Collector::start().await;
        let exporter = {
            let _inside = runtime.enter();
            let channel = Endpoint::from_shared(collector.url()).unwrap().connect_lazy();
            MetricsExporter::new(Registry::new(), channel, SOON)
        };
        runtime.shutdown_background();
        let error = exporter.export(&ResourceMetrics::default()).await.unwrap_err();
        assert!(error.to_string().contains("runtime"), "{error}");
        exporter.shutdown().unwrap();
        let error = exporter.export(&ResourceMetrics::default()).await.unwrap_err();
        assert!(matches!(error, OTelSdkError::AlreadyShutdown));
    }

    #[test]
    fn what_a_collector_says_is_bounded_and_escaped() {
        let error = refused(&Status::internal("\u{1b}[31m\n".to_owned() + &"x".repeat(10_000))).to_string();
        assert!(error.len() < 400 && !error.contains(char::is_control), "{error}");
    }
}
