//! Metrics of real layers, sent by the SDK's reader to a real collector.
#![cfg(feature = "otlp")]

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_bulkhead::{BulkheadLayer, Limit};
use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::{Metric, Observe, Origin, Reason, Value, WeakObserve};
use buttress_rate_limit::{Rate, RateLimitLayer};
use buttress_retry::RetryLayer;
use buttress_telemetry::{MetricsExporter, Registry};
use buttress_testkit::{Answer, Collector, ReceivedMetric};
use buttress_timeout::TimeoutLayer;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_proto::tonic::{
    common::v1::any_value,
    metrics::v1::{NumberDataPoint, metric::Data, number_data_point},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    metrics::{PeriodicReader, SdkMeterProvider},
};
use tokio::time::Instant;
use tonic::transport::Endpoint;

const SOON: Duration = Duration::from_secs(10);

/// What exports when it is told, and otherwise never.
fn provider(registry: &Registry, collector: &Collector, timeout: Duration) -> SdkMeterProvider {
    let channel = Endpoint::from_shared(collector.url()).unwrap().connect_lazy();
    let exporter = MetricsExporter::new(registry.clone(), channel, timeout);
    let reader = PeriodicReader::builder(exporter).with_interval(Duration::from_secs(86_400)).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    registry.export_to(&provider.meter("buttress"));
    provider
}

async fn flush(provider: &SdkMeterProvider) -> OTelSdkResult {
    let provider = provider.clone();
    tokio::task::spawn_blocking(move || provider.force_flush()).await.unwrap()
}

/// The values of a metric by their attributes, `name=orders,reason=closed`; it is checked to be cumulative.
fn values(received: &ReceivedMetric) -> BTreeMap<String, f64> {
    let points: &[NumberDataPoint] = match received.metric.data.as_ref().unwrap() {
        Data::Gauge(gauge) => &gauge.data_points,
        Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{sum:?}");
            &sum.data_points
        }
        other => panic!("{other:?}"),
    };
    let all = points.iter().map(|point| {
        let mut attributes: Vec<String> = point
            .attributes
            .iter()
            .map(|pair| match pair.value.as_ref().unwrap().value.as_ref().unwrap() {
                any_value::Value::StringValue(text) => {
                    format!("{}={text}", pair.key.strip_prefix("buttress.").unwrap())
                }
                other => panic!("{other:?}"),
            })
            .collect();
        attributes.sort();
        let value = match point.value.unwrap() {
            number_data_point::Value::AsInt(int) => int as f64,
            number_data_point::Value::AsDouble(double) => double,
        };
        (attributes.join(","), value)
    });
    all.collect()
}

async fn values_of(collector: &Collector, name: &str) -> BTreeMap<String, f64> {
    values(&collector.metric(name, SOON).await)
}

/// Exports until the metric is there: an instrument that shows up while a meter collects is made afterwards.
async fn soon_values_of(
    provider: &SdkMeterProvider,
    collector: &Collector,
    name: &str,
) -> BTreeMap<String, f64> {
    for _ in 0..100 {
        collector.clear();
        flush(provider).await.unwrap();
        if collector.metric_names().iter().any(|known| known == name) {
            return values_of(collector, name).await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name} was never exported; there are {:?}", collector.metric_names());
}

fn map<const N: usize>(pairs: [(&str, f64); N]) -> BTreeMap<String, f64> {
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}

/// What counts as it is told, and keeps no count but its own.
#[derive(Clone)]
struct Counting(Arc<(Origin, AtomicU64)>);

impl Counting {
    fn new(name: &str, count: u64) -> Self {
        Self(Arc::new((Origin::new("counting", name), AtomicU64::new(count))))
    }
}

impl Observe for Counting {
    fn origin(&self) -> Origin {
        self.0.0
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("spent", Value::Counter(self.0.1.load(Relaxed))).with_unit("s"));
        self.0.0.observe_rejections(visit);
    }
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_of_every_layer_arrives_by_name_unit_and_attribute() {
    let registry = Registry::new();
    let breaker = CircuitBreakerLayer::builder("arrives").build();
    let bulkhead = BulkheadLayer::builder("arrives", Limit::fixed(3).unwrap()).build();
    let limit = RateLimitLayer::new("arrives", Rate::per_second(7));
    let (retrier, timeout) = (RetryLayer::new("arrives").retrier(), TimeoutLayer::new(SOON).name("arrives"));
    registry
        .stack("orders")
        .layer(&limit.limiter())
        .layer(&retrier)
        .layer(&breaker.breaker())
        .layer(&timeout)
        .layer(&bulkhead.limiter())
        .register()
        .unwrap();
    // It stands in two, so it belongs to none.
    registry.stack("other").layer(&timeout).register().unwrap();
    let permit = bulkhead.limiter().try_acquire().unwrap();
    breaker.breaker().force_open();
    assert!(breaker.breaker().acquire().is_err());
    _ = timeout.origin().reject(Reason::TimedOut);

    let collector = Collector::start().await;
    let provider = provider(&registry, &collector, SOON);
    flush(&provider).await.unwrap();
    let own = "name=arrives,stack=orders";
    assert_eq!(values_of(&collector, "buttress.bulkhead.limit").await, map([(own, 3.0)]));
    assert_eq!(values_of(&collector, "buttress.bulkhead.in_flight").await, map([(own, 1.0)]));
    assert_eq!(values_of(&collector, "buttress.circuit_breaker.opened").await.len(), 1);
    assert_eq!(
        values_of(&collector, "buttress.circuit_breaker.rejections").await,
        map([("name=arrives,reason=circuit_open,stack=orders", 1.0)])
    );
    assert_eq!(
        values_of(&collector, "buttress.timeout.rejections").await,
        map([("name=arrives,reason=timed_out", 1.0)])
    );
    assert_eq!(values_of(&collector, "buttress.rate_limit.remaining").await, map([(own, 7.0)]));
    assert_eq!(values_of(&collector, "buttress.layers").await, map([("", 5.0)]));
    assert_eq!(values_of(&collector, "buttress.slow_calls").await, map([("", 0.0)]));
    let rejections = collector.metric("buttress.circuit_breaker.rejections", SOON).await;
    assert_eq!((&*rejections.metric.unit, &*rejections.scope.name), ("{item}", "buttress"));
    assert!(rejections.metric.description.contains("circuit-breaker"));

    // All that any of them has, under its name and with its unit.
    for handle in registry.handles() {
        let mut figures = Vec::new();
        handle.observe.observe(&mut |metric| figures.push(metric));
        for metric in figures {
            let name =
                format!("buttress.{}.{}", handle.observe.origin().layer().replace('-', "_"), metric.name);
            let received = collector.metric(&name, SOON).await;
            let unit = if metric.unit.is_empty() { "{item}" } else { metric.unit };
            assert_eq!(received.metric.unit, unit, "{name}");
            let value = match metric.value {
                Value::Counter(count) => count as f64,
                Value::Gauge(gauge) => gauge,
                _ => continue,
            };
            let values = values(&received);
            assert!(values.values().any(|known| *known == value), "{name} is {value}, not {values:?}");
        }
    }
    drop(permit);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shows_up_later_is_exported_later() {
    let (registry, collector) = (Registry::new(), Collector::start().await);
    let provider = provider(&registry, &collector, SOON);
    flush(&provider).await.unwrap();
    assert_eq!(collector.metric_names(), ["buttress.layers", "buttress.slow_calls"]);
    let layer = Counting::new("later", 3);
    registry.register(&layer).unwrap();
    let values = soon_values_of(&provider, &collector, "buttress.counting.spent").await;
    assert_eq!(values, map([("name=later", 3.0)]));
    assert_eq!(collector.metric("buttress.counting.spent", SOON).await.metric.unit, "s");
    _ = layer.origin().reject(Reason::Closed);
    let values = soon_values_of(&provider, &collector, "buttress.counting.rejections").await;
    assert_eq!(values, map([("name=later,reason=closed", 1.0)]));
    // A label that joins a metric that is there needs no further collection.
    _ = layer.origin().reject(Reason::Overloaded);
    flush(&provider).await.unwrap();
    let values = values_of(&collector, "buttress.counting.rejections").await;
    assert_eq!(values, map([("name=later,reason=closed", 1.0), ("name=later,reason=overloaded", 1.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_of_the_same_name_counts_on_and_what_is_gone_is_not_exported() {
    let (registry, collector) = (Registry::new(), Collector::start().await);
    let old = Counting::new("again", 5);
    _ = old.origin().reject(Reason::Closed);
    registry.register(&old).unwrap();
    let provider = provider(&registry, &collector, SOON);
    flush(&provider).await.unwrap();
    assert_eq!(values_of(&collector, "buttress.counting.spent").await, map([("name=again", 5.0)]));
    drop(old);
    collector.clear();
    flush(&provider).await.unwrap();
    assert_eq!(collector.metric_names(), ["buttress.layers", "buttress.slow_calls"]);
    let new = Counting::new("again", 2);
    registry.register(&new).unwrap();
    flush(&provider).await.unwrap();
    assert_eq!(values_of(&collector, "buttress.counting.spent").await, map([("name=again", 7.0)]));
    // Rejections belong to the name: they are not counted twice.
    let rejections = values_of(&collector, "buttress.counting.rejections").await;
    assert_eq!(rejections, map([("name=again,reason=closed", 1.0)]));
    new.0.1.store(4, Relaxed);
    flush(&provider).await.unwrap();
    assert_eq!(values_of(&collector, "buttress.counting.spent").await, map([("name=again", 9.0)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_slow_or_refuses_costs_an_error_and_no_count() {
    let (registry, collector) = (Registry::new(), Collector::start().await);
    let layer = Counting::new("away", 1);
    registry.register(&layer).unwrap();
    let timeout = Duration::from_millis(300);
    let provider = provider(&registry, &collector, timeout);
    for answer in [Answer::Never, Answer::After(SOON), Answer::Status(tonic::Code::Unavailable)] {
        collector.answer(answer.clone());
        let began = Instant::now();
        assert!(flush(&provider).await.is_err(), "{answer:?}");
        assert!(began.elapsed() < timeout * 8, "{answer:?} took {:?}", began.elapsed());
    }
    assert_eq!(collector.attempts(), 3);
    collector.answer(Answer::Ok);
    collector.stop().await;
    assert!(flush(&provider).await.is_err());
    layer.0.1.store(7, Relaxed);
    collector.restart().await;
    // The channel may wait for a moment before it connects again.
    for _ in 0..100 {
        if flush(&provider).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(values_of(&collector, "buttress.counting.spent").await, map([("name=away", 7.0)]));
    // It kept all but three points, and says so.
    collector.answer(Answer::Partial(3));
    assert!(flush(&provider).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_keeps_neither_the_registry_nor_a_layer_alive() {
    let (registry, collector) = (Registry::new(), Collector::start().await);
    let layer = Counting::new("alive", 1);
    registry.register(&layer).unwrap();
    let provider = provider(&registry, &collector, SOON);
    flush(&provider).await.unwrap();
    assert_eq!(Arc::strong_count(&layer.0), 1);
    let meter = provider.meter("user");
    let own = meter.u64_counter("own").build();
    own.add(1, &[]);
    drop(registry);
    collector.clear();
    flush(&provider).await.unwrap();
    // The user's own instruments go on.
    assert_eq!(collector.metric_names(), ["own"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_that_panics_takes_no_other_along() {
    #[derive(Clone)]
    struct Panics(Arc<Origin>);
    impl Observe for Panics {
        fn origin(&self) -> Origin {
            *self.0
        }
        fn observe(&self, visit: &mut dyn FnMut(Metric)) {
            visit(Metric::new("half", Value::Counter(1)));
            panic!("on purpose");
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }
    let (registry, collector) = (Registry::new(), Collector::start().await);
    let (panics, other) = (Panics(Arc::new(Origin::new("panics", "it"))), Counting::new("other", 2));
    registry.register(&panics).unwrap();
    registry.register(&other).unwrap();
    let provider = provider(&registry, &collector, SOON);
    for _ in 0..2 {
        flush(&provider).await.unwrap();
    }
    assert_eq!(values_of(&collector, "buttress.counting.spent").await, map([("name=other", 2.0)]));
    assert!(!collector.metric_names().iter().any(|name| name.contains("panics")));
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_arrive_bounded_and_each_as_its_own() {
    let (registry, collector) = (Registry::new(), Collector::start().await);
    let long = "x".repeat(10_000);
    let names = ["\0", "\u{1}", "\"\\\n", "日本\u{202e}", &long, &format!("{long}y"), ""];
    let layers: Vec<Counting> = names.iter().map(|name| Counting::new(name, 1)).collect();
    layers.iter().for_each(|layer| registry.register(layer).unwrap());
    let provider = provider(&registry, &collector, SOON);
    flush(&provider).await.unwrap();
    let values = values_of(&collector, "buttress.counting.spent").await;
    assert_eq!(values.len(), names.len());
    assert!(values.keys().all(|name| name.len() <= 256 + "name=".len() && !name.contains('\0')));
    assert!(values.contains_key("name=\"\\\n") && values.contains_key("name=日本\u{202e}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn much_is_sent_in_several_requests_of_a_bounded_size() {
    let (registry, collector) = (Registry::new(), Collector::start().await);
    let layers: Vec<Counting> = (0..1900).map(|at| Counting::new(&format!("{at:0>250}"), at)).collect();
    for (at, layer) in layers.iter().enumerate() {
        let stack = format!("{at:0>250}");
        registry.stack(&stack).layer(layer).register().unwrap();
        for reason in [Reason::Closed, Reason::Overloaded, Reason::TimedOut, Reason::RateLimited] {
            // Ten metrics' worth of points.
            _ = layer.origin().reject(reason);
        }
    }
    let provider = provider(&registry, &collector, SOON);
    flush(&provider).await.unwrap();
    let requests = collector.metrics();
    assert!(requests.len() > 1, "{} requests", requests.len());
    let sizes: Vec<usize> = requests.iter().map(prost::Message::encoded_len).collect();
    assert!(sizes.iter().all(|size| *size < 2_200_000), "{sizes:?}");
    let mut seen = BTreeMap::new();
    for metric in requests.iter().flat_map(|it| &it.resource_metrics[0].scope_metrics[0].metrics) {
        if let Some(Data::Sum(sum)) = &metric.data {
            *seen.entry(&*metric.name).or_insert(0) += sum.data_points.len();
        }
    }
    assert_eq!(seen["buttress.counting.spent"], layers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_layer_says_twice_counts_once_however_often_it_is_collected() {
    #[derive(Clone)]
    struct Twice(Arc<()>);
    impl Observe for Twice {
        fn origin(&self) -> Origin {
            Origin::new("twice", "twice")
        }
        fn observe(&self, visit: &mut dyn FnMut(Metric)) {
            [5, 3].into_iter().for_each(|count| visit(Metric::new("calls", Value::Counter(count))));
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }
    let (registry, collector, twice) = (Registry::new(), Collector::start().await, Twice(Arc::default()));
    registry.register(&twice).unwrap();
    let provider = provider(&registry, &collector, SOON);
    for _ in 0..3 {
        flush(&provider).await.unwrap();
        let values = values_of(&collector, "buttress.twice.calls").await;
        assert_eq!(values.into_values().collect::<Vec<_>>(), [5.0]);
        collector.clear();
    }
}
