//! What a collection of many layers costs. Alone in its process: it measures.
#![cfg(all(feature = "otlp", feature = "prometheus"))]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::{Metric, Observe, Origin, Value, WeakObserve};
use buttress_telemetry::Registry;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{
        PeriodicReader, SdkMeterProvider, Temporality, data::ResourceMetrics, exporter::PushMetricExporter,
    },
};
use tokio::time::Instant;

/// Notes when a collection was over.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Instant>>>);

impl PushMetricExporter for Sink {
    async fn export(&self, _: &ResourceMetrics) -> OTelSdkResult {
        self.0.lock().unwrap().push(Instant::now());
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

fn least(runs: usize, mut run: impl FnMut() -> Duration) -> Duration {
    (0..runs).map(|_| run()).min().unwrap()
}

#[test]
#[expect(clippy::print_stdout, reason = "it is the figure that is asked for")]
fn a_thousand_layers_are_read_in_milliseconds() {
    let registry = Registry::new();
    let layers: Vec<_> =
        (0..1000).map(|at| CircuitBreakerLayer::builder(&format!("breaker-{at}")).build()).collect();
    let began = Instant::now();
    for (at, layer) in layers.iter().enumerate() {
        registry.stack(&format!("stack-{at}")).layer(&layer.breaker()).register().unwrap();
    }
    let register = began.elapsed();

    let sink = Sink::default();
    let reader = PeriodicReader::builder(sink.clone()).with_interval(Duration::from_secs(86_400)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    registry.export_to(&provider.meter("buttress"));
    let collect = least(20, || {
        let began = Instant::now();
        provider.force_flush().unwrap();
        *sink.0.lock().unwrap().last().unwrap() - began
    });
    let timed = |run: &dyn Fn() -> usize| {
        least(20, || {
            let began = Instant::now();
            assert!(run() > 0);
            began.elapsed()
        })
    };
    let handles = timed(&|| registry.handles().len());
    let snapshot = timed(&|| registry.snapshot().layers.len());
    let before = registry.snapshot();
    let since = timed(&|| registry.snapshot().since(&before).layers.len());
    let page = timed(&|| registry.prometheus().len());
    println!(
        "1,000 breakers: register {register:?}, collect {collect:?}, handles {handles:?}, snapshot {snapshot:?}, \
         with difference {since:?}, Prometheus page {page:?}"
    );
    // 5 ms are promised, of a release build. This one may not be optimized, and its machine is busy.
    let bound = if cfg!(debug_assertions) { 500 } else { 50 };
    for took in [collect, handles, snapshot, since, page] {
        assert!(took < Duration::from_millis(bound), "{took:?}");
    }
}

#[test]
fn one_collection_asks_each_layer_once() {
    #[derive(Clone)]
    struct Asked(Arc<AtomicU64>);
    impl Observe for Asked {
        fn origin(&self) -> Origin {
            Origin::new("asked", "once")
        }
        fn observe(&self, visit: &mut dyn FnMut(Metric)) {
            let asked = self.0.fetch_add(1, Relaxed);
            ["a", "b", "c"].into_iter().for_each(|name| visit(Metric::new(name, Value::Counter(asked))));
            visit(Metric::new("d", Value::Gauge(0.0)));
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }
    let (registry, asked) = (Registry::new(), Asked(Arc::default()));
    registry.register(&asked).unwrap();
    let reader = PeriodicReader::builder(Sink::default()).with_interval(Duration::from_secs(86_400)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    registry.export_to(&provider.meter("buttress"));
    assert_eq!(asked.0.load(Relaxed), 1, "which instruments there are to be");
    for collections in 1..4 {
        provider.force_flush().unwrap();
        assert_eq!(asked.0.load(Relaxed), 1 + collections);
    }
}
