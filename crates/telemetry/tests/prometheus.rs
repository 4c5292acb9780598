//! The page for Prometheus, read by parsers that others wrote.
#![cfg(feature = "dashboard")]

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use axum::body::Body;
use buttress_bulkhead::{BulkheadLayer, Limit};
use buttress_circuit_breaker::CircuitBreakerLayer;
use buttress_core::{Metric, Observe, Origin, Reason, Value, WeakObserve};
use buttress_telemetry::{Kind, Registry, prometheus_route};
use buttress_timeout::TimeoutLayer;
use http::{Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::BodyExt;
use prometheus_parse::{Scrape, Value as Parsed};
use tower::ServiceExt;

/// What Prometheus' own parser and its rules of style say about a page.
///
/// # Panics
/// When it does not like it; or when it is not there: `cargo xtask setup` installs it.
fn promtool(page: &str) {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if std::env::var_os("CI").is_none() => {
            eprintln!("NOT CHECKED BY promtool ({error}): run `cargo xtask setup`");
            return;
        }
        Err(error) => panic!("promtool: {error}; run `cargo xtask setup`"),
    };
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}\n{page}");
}

fn parse(page: &str) -> Scrape {
    Scrape::parse(page.lines().map(|line| Ok(line.to_owned()))).unwrap()
}

/// The value of the sample with exactly these labels.
fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let is_it = |sample: &&prometheus_parse::Sample| {
        sample.metric == name
            && sample.labels.len() == labels.len()
            && labels.iter().all(|(key, value)| sample.labels.get(key) == Some(value))
    };
    scrape.samples.iter().find(is_it).map(|sample| match sample.value {
        Parsed::Counter(value) | Parsed::Gauge(value) => value,
        ref other => panic!("{name} is {other:?}"),
    })
}

#[test]
fn a_parser_finds_every_figure_of_the_snapshot() {
    let registry = Registry::new();
    let breaker = CircuitBreakerLayer::builder("page").build();
    let bulkhead = BulkheadLayer::builder("page", Limit::fixed(3).unwrap()).build();
    let timeout = TimeoutLayer::new(Duration::from_secs(1)).name("page");
    registry
        .stack("orders")
        .layer(&breaker.breaker())
        .layer(&timeout)
        .layer(&bulkhead.limiter())
        .register()
        .unwrap();
    registry.stack("other").layer(&timeout).register().unwrap();
    breaker.breaker().force_open();
    assert!(breaker.breaker().acquire().is_err());
    _ = timeout.origin().reject(Reason::TimedOut);
    let _permit = bulkhead.limiter().try_acquire().unwrap();

    let (snapshot, page) = (registry.snapshot(), registry.prometheus());
    promtool(&page);
    let scrape = parse(&page);
    let mut figures = 0;
    for layer in &snapshot.layers {
        for figure in &layer.figures {
            let end = if figure.kind == Kind::Counter { "_total" } else { "" };
            let name = format!("buttress_{}_{}{end}", layer.layer.replace('-', "_"), figure.name);
            let label = figure.label.map(|(key, value)| (format!("buttress_{key}"), value));
            let mut labels = vec![("buttress_name", layer.name)];
            if layer.layer != "timeout" {
                labels.push(("buttress_stack", "orders"));
            }
            labels.extend(label.as_ref().map(|(key, value)| (&**key, *value)));
            assert_eq!(value(&scrape, &name, &labels), Some(figure.value), "{name} {labels:?} in {page}");
            figures += 1;
        }
    }
    assert!(figures > 8, "{figures}");
    let rejections = "buttress_circuit_breaker_rejections_total{buttress_name=\"page\",\
                      buttress_reason=\"circuit_open\",buttress_stack=\"orders\"} 1\n";
    assert!(page.contains(rejections), "{page}");
    assert_eq!(value(&scrape, "buttress_layers", &[]), Some(3.0));
    assert_eq!(value(&scrape, "buttress_slow_calls_total", &[]), Some(0.0));
    for (name, known) in [
        ("process_resident_memory_bytes", snapshot.process.memory_bytes.is_some()),
        ("process_cpu_seconds_total", snapshot.process.cpu_seconds.is_some()),
        ("process_open_fds", snapshot.process.open_files.is_some()),
    ] {
        assert_eq!(value(&scrape, name, &[]).is_some(), known, "{name}");
    }
    let mut written = String::new();
    registry.write_prometheus(&mut written).unwrap();
    assert_eq!(written.lines().count(), page.lines().count());
}

#[test]
fn families_are_sorted_and_each_is_in_one_piece() {
    let registry = Registry::new();
    let breakers: Vec<_> =
        ["b", "a", "c"].map(|name| CircuitBreakerLayer::builder(name).build()).into_iter().collect();
    breakers.iter().for_each(|layer| registry.register(&layer.breaker()).unwrap());
    let page = registry.prometheus();
    let families: Vec<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert!(families.is_sorted() && families.len() > 4, "{families:?}");
    let mut current = "";
    for line in page.lines() {
        match line.strip_prefix("# HELP ") {
            Some(help) => current = help.split(' ').next().unwrap(),
            None => assert!(line.starts_with('#') || line.starts_with(current), "{line} under {current}"),
        }
    }
}

/// A layer whose name, label and help come from whom you like.
#[derive(Clone)]
struct Hostile(Arc<(Origin, &'static str)>);

impl Observe for Hostile {
    fn origin(&self) -> Origin {
        self.0.0
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new(self.0.1, Value::Counter(1)).with_label(self.0.1, self.0.1));
        visit(Metric::new("level", Value::Gauge(f64::NAN)).with_unit(self.0.1));
        visit(Metric::new("endless", Value::Gauge(f64::INFINITY)));
    }
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
}

#[test]
fn hostile_names_are_escaped_bounded_and_each_its_own() {
    let registry = Registry::new();
    let long = "x".repeat(10_000);
    let other = long.clone() + "y";
    let names = [
        "\"",
        "\\",
        "\n",
        "\r",
        "\0",
        "\u{1}",
        "a\"} 1\nevil_total{b=\"",
        "# TYPE x counter",
        "日本語 größe \u{202e}\u{2028}",
        &long,
        &other,
        "",
        "{}=,",
    ];
    let metrics = ["plain", "x\"y\n{}", "", "1", "__x", "le", "ünï"];
    let layers: Vec<Hostile> = names
        .iter()
        .zip(metrics.iter().cycle())
        .map(|(name, metric)| Hostile(Arc::new((Origin::new("hostile-\"\n", name), *metric))))
        .collect();
    layers.iter().for_each(|layer| registry.register(layer).unwrap());
    registry.stack("a\"\n\\").layer(&layers[0]).register().unwrap();
    let page = registry.prometheus();
    promtool(&page);
    let endless: Vec<&str> =
        page.lines().filter(|line| line.starts_with("buttress_hostile_endless{")).collect();
    assert_eq!(endless.len(), names.len(), "{page}");
    assert!(endless.iter().all(|line| line.len() < 700 && line.ends_with("} +Inf")), "{endless:?}");
    assert!(
        page.contains(r#"buttress_hostile_endless{buttress_name="\"",buttress_stack="a\"\n\\"} +Inf"#),
        "{page}"
    );
    assert!(page.contains(r#"{buttress_name="a\"} 1\nevil_total{b=\""} +Inf"#), "{page}");
    assert!(!page.lines().any(|line| line.starts_with("evil_total")));
    assert!(!page.contains(|c: char| c.is_control() && c != '\n'));
}

#[tokio::test]
async fn the_route_serves_the_page_and_nothing_else() {
    let registry = Registry::new();
    let route = prometheus_route(&registry);
    let breaker = CircuitBreakerLayer::builder("route").build();
    registry.register(&breaker.breaker()).unwrap();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let answer = route.clone().oneshot(get("/metrics")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let page = String::from_utf8(body.to_vec()).unwrap();
    promtool(&page);
    assert!(page.contains("buttress_circuit_breaker_state{buttress_name=\"route\"} 0\n"), "{page}");
    let post = Request::post("/metrics").body(Body::empty()).unwrap();
    assert_eq!(route.clone().oneshot(post).await.unwrap().status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(route.oneshot(get("/")).await.unwrap().status(), StatusCode::NOT_FOUND);
}
