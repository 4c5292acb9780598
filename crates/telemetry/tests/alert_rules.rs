//! The rules for Prometheus: its own tool accepts them, and they fire when those within the program do.
#![cfg(feature = "generate")]

#[path = "support/stack.rs"]
mod stack;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    process::Command,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Value as Figure, WeakObserve};
use buttress_telemetry::{
    AlertStatus, Alerts, BurnWindow, CallsFigure, Comparison, Registry, Rule, Severity, Slo, Subject,
    default_rules, grafana_dashboard, prometheus_rules,
};
use serde_json::Value;
use tokio::time::{Instant, sleep, sleep_until};

use self::stack::Stack;

const STEP: Duration = Duration::from_secs(15);

/// Quotes, templates, variables, line breaks: all that could end a string.
const HOSTILE: &str =
    "o\"r\\d'e\nrs {{ $x }} {{ \"a\" }} $datasource [[datasource]] #: - é\u{1}\u{2028}\u{fffd}";

/// Runs Prometheus' own tool on files; without it a test fails where `CI` is set, and says so elsewhere.
fn promtool(arguments: &[&str], files: &[(&str, &str)]) {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    match Command::new("promtool").args(arguments).current_dir(directory.path()).output() {
        Ok(done) => assert!(
            done.status.success(),
            "promtool {arguments:?}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
        ),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "promtool (of Debian's package prometheus): {error}");
            eprintln!("NOT TESTED: there is no promtool here ({error}); install Debian's package prometheus");
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap().replace('\u{2028}', "\\u2028")
}

fn all_rules(registry: &Registry, name: &str) -> Vec<Rule> {
    let mut rules = default_rules(registry);
    let minute = Duration::from_secs(60);
    let window = |long: u64, short: u64, factor| BurnWindow {
        long: Duration::from_secs(long),
        short: Duration::from_secs(short),
        factor,
    };
    let rejections = || Subject::figure("circuit-breaker", "rejections").over(2 * minute);
    rules.extend([
        Rule::burn_rate("burn", Slo::new(name, 0.9)).windows([window(300, 60, 3.0), window(600, 120, 2.0)]),
        Rule::burn_rate("burn with rejected", Slo::new(name, 0.99).rejected_are_bad())
            .windows([window(600, 60, 14.4)])
            .summary("\"{{ $labels.nothing }}\""),
        Rule::burn_rate("late", Slo::new(name, 0.99).slower_are_bad(Duration::from_millis(25)))
            .windows([window(300, 60, 10.0)]),
        Rule::burn_rate(
            "very late or refused",
            Slo::new(name, 0.9).rejected_are_bad().slower_are_bad(Duration::from_secs(1)),
        )
        .windows([window(300, 60, 5.0)]),
        Rule::threshold("refused", rejections(), Comparison::Above, 0.1),
        Rule::threshold(
            "refused by the circuit",
            rejections().of(name).labelled("reason", "circuit_open"),
            Comparison::Above,
            0.1,
        ),
        Rule::threshold(
            "refused for another reason",
            rejections().labelled("reason", "queue_full"),
            Comparison::Above,
            0.0,
        ),
        Rule::threshold("median", Subject::calls(CallsFigure::P50).of(name), Comparison::AtLeast, 0.005),
        Rule::threshold("quick", Subject::calls(CallsFigure::P95).over(minute), Comparison::AtMost, 0.005),
        Rule::threshold("rate", Subject::calls(CallsFigure::PerSecond).over(minute), Comparison::Below, 1.0)
            .severity(Severity::Critical),
    ]);
    rules
}

/// Every metric that an expression names.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let is_one = |word: &&str| {
        word.starts_with("buttress_") && !["buttress_name", "buttress_reason", "buttress_end"].contains(word)
    };
    words.filter(is_one).map(str::to_owned).collect()
}

/// What was on the page, and what fired, at each step.
#[derive(Default)]
struct Seen {
    series: BTreeMap<String, Vec<(usize, String)>>,
    firing: Vec<BTreeSet<String>>,
}

impl Seen {
    async fn look(&mut self, registry: &Registry, alerts: &Alerts) {
        // The alerts look first, then Prometheus.
        sleep(Duration::from_millis(1)).await;
        for line in registry.prometheus().lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.rsplit_once(' ').unwrap();
            self.series.entry(name.to_owned()).or_default().push((self.firing.len(), value.to_owned()));
        }
        let active = alerts.active().into_iter().filter(|state| state.status == AlertStatus::Firing);
        self.firing.push(active.map(|state| state.rule).collect());
    }
}

#[tokio::test(start_paused = true)]
async fn prometheus_fires_what_the_program_fires() {
    let stack = Stack::new(HOSTILE);
    let rules = all_rules(&stack.registry, HOSTILE);
    let alerts = Alerts::builder(&stack.registry).rules(rules.clone()).every(STEP).build().unwrap();
    let mut seen = Seen::default();
    // So many of ten calls fail, never so many in a row that the breaker opens unless all do: well, half of them, well, a few, down, well;
    // then slow and well; then nobody calls, and the breaker is forced open.
    let mut calls = (0_u32..10).cycle();
    let phases = [
        (60, 0, 10),
        (30, 5, 10),
        (30, 0, 10),
        (30, 2, 10),
        (30, 0, 10),
        (36, 10, 10),
        (80, 0, 10),
        (40, 0, 40),
        (30, 0, 10),
    ];
    for (steps, bad, takes) in phases {
        stack.takes_millis.store(takes, SeqCst);
        for _ in 0..steps {
            let began = Instant::now();
            seen.look(&stack.registry, &alerts).await;
            for call in calls.by_ref() {
                stack.is_down.store(call * 7 % 10 < bad, SeqCst);
                _ = stack.call().await;
                sleep(Duration::from_millis(200)).await;
                if began.elapsed() > STEP - Duration::from_millis(900) {
                    break;
                }
            }
            sleep_until(began + STEP).await;
        }
    }
    for is_forced in [false, true] {
        if is_forced {
            stack.breaker.force_open();
        }
        for _ in 0..30 {
            let began = Instant::now();
            seen.look(&stack.registry, &alerts).await;
            sleep_until(began + STEP).await;
        }
    }
    let Seen { series, firing } = seen;
    assert!(stack.breaker.snapshot().opened > 0);
    let ever: BTreeSet<&String> = firing.iter().flatten().collect();
    let breaker = format!("circuit-breaker {HOSTILE} open");
    for rule in [
        "burn",
        "burn with rejected",
        "late",
        "very late or refused",
        "refused",
        "refused by the circuit",
        "median",
        "rate",
        &breaker,
    ] {
        assert!(ever.contains(&rule.to_owned()), "{rule:?} never fired: {ever:?}");
    }
    assert!(!ever.contains(&"refused for another reason".to_owned()));

    let yaml = prometheus_rules(&stack.registry, &rules);
    promtool(&["check", "rules", "rules.yml"], &[("rules.yml", &yaml)]);

    // A figure that has been on no page is of no use, but for rejections that did not happen.
    let page = stack.registry.prometheus();
    for metric in metrics(&yaml) {
        let is_idle = ["bulkhead", "timeout", "rate_limit"]
            .iter()
            .any(|layer| metric == format!("buttress_{layer}_rejections_total"));
        assert!(page.contains(&format!("\n{metric}{{")) || is_idle, "{metric} is not on {page}");
    }

    let mut test = String::from(
        "rule_files: [rules.yml]\nevaluation_interval: 15s\ntests:\n  - interval: 15s\n    input_series:\n",
    );
    for (name, values) in &series {
        let mut all = vec!["_"; firing.len()];
        values.iter().for_each(|(at, value)| all[*at] = value);
        writeln!(test, "      - series: {}\n        values: {}", quoted(name), quoted(&all.join(" ")))
            .unwrap();
    }
    test.push_str("    promql_expr_test:\n");
    let mut compared = 0;
    for (at, now) in firing.iter().enumerate() {
        // Where something changes, one of them may be a look ahead of the other.
        let range = at.saturating_sub(2)..(at + 3).min(firing.len());
        if firing[range].iter().any(|other| other != now) {
            continue;
        }
        compared += 1;
        writeln!(
            test,
            "      - expr: count by (alertname) (ALERTS{{alertstate=\"firing\"}})\n        eval_time: {}s\n        exp_samples:{}",
            at as u64 * STEP.as_secs(),
            if now.is_empty() { " []" } else { "" }
        )
        .unwrap();
        for rule in now {
            let escaped = rule.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n");
            let escaped = escaped.replace('\u{fffd}', r"\ufffd");
            let labels = quoted(&format!("{{alertname=\"{escaped}\"}}"));
            writeln!(test, "          - labels: {labels}\n            value: 1").unwrap();
        }
    }
    assert!(compared > firing.len() / 3, "{compared} of {}", firing.len());
    promtool(&["test", "rules", "test.yml"], &[("test.yml", &test), ("rules.yml", &yaml)]);
}

/// Series as they come, by hand: what must fire and what must not.
#[test]
fn an_objective_for_slow_calls_fires_in_prometheus_by_what_was_counted() {
    let window = BurnWindow { long: Duration::from_secs(600), short: Duration::from_secs(120), factor: 10.0 };
    let slo = Slo::new("orders", 0.99).slower_are_bad(Duration::from_secs(1));
    let rule = Rule::burn_rate("late", slo).windows([window]);
    let yaml = prometheus_rules(&Registry::new(), &[rule]);
    let calls = |end: &str, per_step: u32| {
        (
            format!("buttress_telemetry_calls_total{{buttress_name=\"orders\",buttress_end=\"{end}\"}}"),
            per_step,
        )
    };
    let latencies = |suffix: &str, le: &str, per_step: u32| {
        let labels = "buttress_name=\"orders\",buttress_end=\"success\"";
        (format!("buttress_call_duration_seconds_{suffix}{{{labels}{le}}}"), per_step)
    };
    let of = |success: u32, quick: u32, failure: u32, le: &str| {
        let mut series = vec![calls("success", success), calls("failure", failure), calls("cancelled", 1000)];
        if success > 0 {
            series.push(latencies("count", "", success));
            series.push(latencies("bucket", &format!(",le=\"{le}\""), quick));
            series.push(latencies("bucket", ",le=\"0.5\"", 0));
            series.push(latencies("bucket", ",le=\"+Inf\"", success));
        }
        series
    };
    let mut test = String::from("rule_files: [rules.yml]\nevaluation_interval: 15s\ntests:\n");
    for (series, fires) in [
        (of(100, 100, 0, "1"), false),
        (of(100, 91, 0, "1"), false),
        (of(100, 89, 0, "1"), true),
        // So Prometheus 3 writes it.
        (of(100, 91, 0, "1.0"), false),
        (of(100, 89, 0, "1.0"), true),
        (of(90, 85, 10, "1"), true),
        // There is no histogram of successes where there was none.
        (of(0, 0, 100, "1"), true),
        (of(0, 0, 0, "1"), false),
    ] {
        test.push_str("  - interval: 15s\n    input_series:\n");
        for (name, per_step) in series {
            writeln!(test, "      - series: {}\n        values: 0+{per_step}x60", quoted(&name)).unwrap();
        }
        let samples = if fires { "\n          - labels: \"{}\"\n            value: 1" } else { " []" };
        writeln!(
            test,
            "    promql_expr_test:\n      - expr: count(ALERTS{{alertname=\"late\",alertstate=\"firing\"}})\n        eval_time: 14m\n        exp_samples:{samples}"
        )
        .unwrap();
    }
    promtool(&["test", "rules", "test.yml"], &[("test.yml", &test), ("rules.yml", &yaml)]);
}

#[tokio::test(start_paused = true)]
async fn the_dashboard_draws_the_stack_in_its_order_with_the_same_thresholds() {
    let stack = Stack::new(HOSTILE);
    let rules = all_rules(&stack.registry, HOSTILE);
    stack.calls(3).await;
    let dashboard = grafana_dashboard(&stack.registry, HOSTILE, &rules);
    assert_eq!(dashboard["title"], HOSTILE);
    let panels = dashboard["panels"].as_array().unwrap();
    let titles: Vec<&str> = panels.iter().map(|panel| panel["title"].as_str().unwrap()).collect();
    let layers: Vec<&str> =
        titles.iter().filter_map(|title| title.strip_suffix(&format!(" {HOSTILE}"))).collect();
    assert_eq!(titles[0], HOSTILE, "the row is the stack");
    assert_eq!(layers, ["telemetry", "timeout", "rate-limit", "retry", "circuit-breaker", "bulkhead"]);
    for rule in &rules {
        assert_eq!(titles.iter().filter(|title| **title == rule.name()).count(), 1, "{}", rule.name());
    }
    let of = |title: &str| panels.iter().find(|panel| panel["title"] == title).unwrap();
    let steps = |title: &str| {
        let steps = of(title)["fieldConfig"]["defaults"]["thresholds"]["steps"].as_array().unwrap();
        steps.iter().filter_map(|step| step["value"].as_f64()).collect::<Vec<_>>()
    };
    assert_eq!(steps(&format!("bulkhead {HOSTILE} waiting")), [8.0], "80 % of a queue of 10");
    assert_eq!(steps(&format!("telemetry {HOSTILE} p99")), [1.8], "90 % of 2 s");
    assert_eq!(steps("burn"), [0.2, 0.3]);
    assert_eq!(steps("burn with rejected"), [0.144]);

    // Nothing overlaps, and every id is its own.
    let mut cells = BTreeSet::new();
    let mut ids = BTreeSet::new();
    let number = |value: &Value| value.as_u64().unwrap();
    for panel in panels {
        let place = &panel["gridPos"];
        assert!(number(&place["x"]) + number(&place["w"]) <= 24);
        for x in number(&place["x"])..number(&place["x"]) + number(&place["w"]) {
            for y in number(&place["y"])..number(&place["y"]) + number(&place["h"]) {
                assert!(cells.insert((x, y)), "{panel} lies over another");
            }
        }
        assert!(ids.insert(number(&panel["id"])));
    }

    // What Grafana asks is what Prometheus understands, once Grafana has put in its variables.
    let mut yaml = String::from("groups:\n  - name: panels\n    rules:\n");
    let page = stack.registry.prometheus();
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    for (at, target) in targets.enumerate() {
        let expr = target["expr"].as_str().unwrap();
        assert!(!expr.replace("[$__rate_interval]", "").contains('$') && !expr.contains("[["), "{expr}");
        let is_known =
            |metric: &String| page.contains(&format!("\n{metric}{{")) || metric.ends_with("rejections_total");
        assert!(metrics(expr).iter().all(is_known), "{expr}");
        let expr = quoted(&expr.replace("$__rate_interval", "5m"));
        writeln!(yaml, "      - record: panel:{at}\n        expr: {expr}").unwrap();
    }
    promtool(&["check", "rules", "rules.yml"], &[("rules.yml", &yaml)]);
}

#[tokio::test]
async fn no_rules_and_no_layers_are_files_too() {
    let registry = Registry::new();
    let yaml = prometheus_rules(&registry, &[]);
    promtool(&["check", "rules", "rules.yml"], &[("rules.yml", &yaml)]);
    assert_eq!(grafana_dashboard(&registry, "empty", &[])["panels"], Value::Array(Vec::new()));
    // Rules of what is not there, two of them for longer than Prometheus can count.
    let high = |name| Rule::threshold(name, Subject::figure("x", "y"), Comparison::Above, 1.0);
    let rules = [
        Rule::threshold(
            "a",
            Subject::figure("x", "y").over(Duration::from_millis(1)),
            Comparison::Above,
            -1e300,
        ),
        Rule::threshold("b", Subject::calls(CallsFigure::P99), Comparison::Below, 1e-300),
        Rule::between("c", Subject::figure("ä\"", "\n"), -2.0..=-1.0)
            .for_at_least(Duration::from_millis(1500)),
        high("d").for_at_least(Duration::from_secs(10_000_000_000)),
        high("e").for_at_least(Duration::MAX),
    ];
    let yaml = prometheus_rules(&registry, &rules);
    promtool(&["check", "rules", "rules.yml"], &[("rules.yml", &yaml)]);
    assert!(yaml.contains("for: 1500ms"), "{yaml}");
    assert_eq!(grafana_dashboard(&registry, "rules", &rules)["panels"].as_array().unwrap().len(), 6);
}

#[test]
fn a_legend_names_a_label_as_prometheus_does() {
    #[derive(Clone)]
    struct Labelled(Arc<()>);
    impl Observe for Labelled {
        fn origin(&self) -> Origin {
            Origin::new("labelled", "it")
        }
        fn observe(&self, visit: &mut dyn FnMut(Metric)) {
            visit(Metric::new("level", Figure::Gauge(1.0)).with_label("node-kind", "a"));
        }
        fn downgrade(&self) -> WeakObserve {
            WeakObserve::of(&self.0, Self)
        }
    }
    let (registry, labelled) = (Registry::new(), Labelled(Arc::default()));
    registry.register(&labelled).unwrap();
    assert!(registry.prometheus().contains("buttress_node_kind=\"a\""));
    let dashboard = grafana_dashboard(&registry, "labels", &[]);
    assert!(dashboard.to_string().contains("level {{buttress_node_kind}} {{instance}}"), "{dashboard}");
}
