//! What it costs to see a call.

use std::{
    future::{Ready, ready},
    sync::LazyLock,
    task::{Context, Poll},
    time::Duration,
};

use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_telemetry::{HttpClient, Registry, TelemetryLayer};
use http::{Request, Response, Uri};
use opentelemetry::{KeyValue, metrics::MeterProvider};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        PeriodicReader, SdkMeterProvider, Temporality, data::ResourceMetrics, exporter::PushMetricExporter,
    },
};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

use crate::{
    backend::HEALTHY,
    body::shared,
    ours,
    row::{Expected, Row},
    verdict::Verdict,
};

/// It is read by nobody here, as it is between two collections.
static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

pub(crate) fn rows() -> Vec<Row> {
    let row = |name, build| Row::new("telemetry", name, Expected::All(Verdict::Served), build);
    let others = vec![
        row("buttress histogram two layers", |_| {
            let registry = Registry::new();
            let layer = |name| TelemetryLayer::new(name, &registry).expect("there is none of that name");
            shared(layer("outside").layer(layer("inside").layer(HEALTHY)))
        }),
        row("http bare", |_| shared(over_http(Answer))),
        row("buttress http histogram", |_| {
            let layer = TelemetryLayer::builder("http", &Registry::new())
                .convention(HttpClient)
                .build()
                .expect("the registry is empty");
            shared(over_http(layer.layer(Answer)))
        }),
        row("breaker alone", |_| shared(CircuitBreakerLayer::builder("alone").build().layer(HEALTHY))),
        row("breaker registered", |_| {
            let layer = CircuitBreakerLayer::builder("registered").build();
            REGISTRY.register(&layer.breaker()).expect("the one before is dropped");
            shared(layer.layer(HEALTHY))
        }),
        row("opentelemetry histogram", |_| {
            let provider =
                SdkMeterProvider::builder().with_reader(PeriodicReader::builder(Nowhere).build()).build();
            let histogram =
                provider.meter("bench").f64_histogram("buttress.call.duration").with_unit("s").build();
            shared(service_fn(move |request: u64| {
                let (histogram, provider) = (histogram.clone(), provider.clone());
                async move {
                    let start = Instant::now();
                    let answer = HEALTHY.oneshot(request).await;
                    let attributes =
                        [KeyValue::new("buttress.name", "bench"), KeyValue::new("buttress.end", "success")];
                    histogram.record(start.elapsed().as_secs_f64(), &attributes);
                    drop(provider);
                    answer
                }
            }))
        }),
    ];
    [ours::rows_of("telemetry"), others].concat()
}

/// Asks for the same address in every call.
fn over_http<S>(inner: S) -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send
where
    S: Service<Request<u64>, Response = Response<u64>, Error = BoxError, Future: Send> + Clone + Send,
{
    let uri = Uri::from_static("http://stock.internal:8080/items/7");
    inner.map_response(Response::into_body).map_request(move |number| {
        let mut request = Request::new(number);
        *request.uri_mut() = uri.clone();
        request
    })
}

#[derive(Clone)]
struct Answer;

impl Service<Request<u64>> for Answer {
    type Response = Response<u64>;
    type Error = BoxError;
    type Future = Ready<Result<Response<u64>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        ready(Ok(Response::new(request.into_body())))
    }
}

/// Exports once a minute: not while it is measured.
struct Nowhere;

impl PushMetricExporter for Nowhere {
    async fn export(&self, _: &ResourceMetrics) -> OTelSdkResult {
        Ok(())
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }

    fn temporality(&self) -> Temporality {
        Temporality::Cumulative
    }
}
