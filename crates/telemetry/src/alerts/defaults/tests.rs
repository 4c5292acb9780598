use std::sync::Arc;

use buttress_core::{Metric, Observe, Origin, Setting, SettingValue, Value, WeakObserve};

use super::*;
use crate::alerts::rule::Condition;

/// A layer of that kind and name, with those figures and settings.
#[derive(Clone)]
struct Fake(Arc<Parts>);

struct Parts {
    origin: Origin,
    figures: Vec<Metric>,
    settings: Vec<Setting>,
}

impl Observe for Fake {
    fn origin(&self) -> Origin {
        self.0.origin
    }
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        self.0.figures.iter().for_each(|figure| visit(*figure));
    }
    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }
    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.0.settings.iter().for_each(|setting| visit(*setting));
    }
}

fn fake(
    layer: &'static str,
    name: &str,
    figures: &[(&'static str, Option<&'static str>)],
    settings: &[(&'static str, SettingValue)],
) -> Fake {
    let figure = |(name, part): &(&'static str, Option<&'static str>)| {
        let metric = Metric::new(name, Value::Gauge(0.0));
        part.map_or(metric, |part| metric.with_label("part", part))
    };
    Fake(Arc::new(Parts {
        origin: Origin::new(layer, name),
        figures: figures.iter().map(figure).collect(),
        settings: settings.iter().map(|(name, value)| Setting::new(name, *value)).collect(),
    }))
}

fn rules(layers: &[Fake]) -> Vec<Rule> {
    let registry = Registry::new();
    layers.iter().for_each(|layer| registry.register(layer).unwrap());
    let rules = default_rules(&registry);
    assert!(rules.iter().all(|rule| rule.flaw().is_none()), "{rules:?}");
    rules
}

#[test]
fn a_breaker_is_given_the_time_that_it_is_set_to() {
    let open_for = SettingValue::Duration(Duration::from_secs(3));
    let state = [("state", None)];
    let told = fake("circuit-breaker", "defaults-told", &state, &[("open_for", open_for)]);
    let silent = fake("circuit-breaker", "defaults-silent", &state, &[("open_for", SettingValue::Off)]);
    let holds: Vec<Duration> = rules(&[told, silent]).iter().map(|rule| rule.hold).collect();
    assert_eq!(holds, [Duration::from_secs(3), HALF_A_MINUTE]);
}

#[test]
fn a_queue_that_is_off_or_of_no_places_has_no_rule() {
    let waiting = [("waiting", None)];
    for (setting, expected) in [
        (SettingValue::Off, None),
        (SettingValue::Count(0), None),
        (SettingValue::Word("many"), None),
        (SettingValue::Count(1), Some(1.0)),
        (SettingValue::Count(64), Some(52.0)),
    ] {
        let layer = fake("bulkhead", "defaults-queue", &waiting, &[("queue_capacity", setting)]);
        let rules = rules(&[layer]);
        let of_queue = rules.iter().find(|rule| rule.name().ends_with("waiting"));
        let threshold = of_queue.map(|rule| match rule.condition {
            Condition::Threshold { value, .. } => value,
            _ => f64::NAN,
        });
        assert_eq!(threshold, expected, "{setting:?}");
    }
}

#[test]
fn what_a_layer_does_not_tell_has_no_rule_and_every_kind_that_tells_has_one() {
    for layer in ["circuit-breaker", "postgres", "retry", "health", "balance", "redis", "unknown"] {
        assert_eq!(rules(&[fake(layer, "defaults-empty", &[], &[])]).len(), 0, "{layer}");
    }
    for (layer, figure) in [
        ("circuit-breaker", "breakers"),
        ("postgres", "wait_timeouts"),
        ("retry", "budget_exhausted"),
        ("health", "ready"),
        ("balance", "ejected"),
        ("redis", "connections"),
        ("http", "calls_waiting"),
        ("cache", "store_errors"),
        ("redis-cache", "connected"),
        ("rate-limit", "store_is_away"),
        ("cache", "store_is_away"),
    ] {
        let rules = rules(&[fake(layer, "defaults-one", &[(figure, None)], &[])]);
        assert_eq!(rules.len(), 1, "{layer}");
    }
    let pool = [("connections_max", None), ("waiting", None)];
    assert_eq!(rules(&[fake("postgres", "defaults-pool", &pool, &[])]).len(), 1);
}

#[test]
fn rules_of_layers_with_names_that_run_together_or_are_long_are_told_apart() {
    let long = "n".repeat(5000);
    let layers = [
        fake("health", "d", &[("up", Some("up x"))], &[]),
        fake("health", "d up", &[("up", Some("x"))], &[]),
        fake("retry", &format!("{long}1"), &[("budget_exhausted", None)], &[]),
        fake("retry", &format!("{long}2"), &[("budget_exhausted", None)], &[]),
    ];
    let rules = rules(&layers);
    let names: HashSet<&str> = rules.iter().map(Rule::name).collect();
    assert_eq!((rules.len(), names.len()), (4, 4), "{names:?}");
}

#[test]
fn a_cache_without_a_store_has_no_rule_for_one() {
    let errors = [("store_errors", None)];
    let cache = |store| fake("cache", "defaults-store", &errors, &[("store", store)]);
    assert_eq!(thresholds(cache(SettingValue::Off)), []);
    let name = "cache defaults-store store_errors".to_owned();
    assert_eq!(thresholds(cache(SettingValue::Word("custom"))), [(name, 0.0)]);
}

fn thresholds(layer: Fake) -> Vec<(String, f64)> {
    let threshold = |rule: Rule| match rule.condition {
        Condition::Threshold { value, .. } => (rule.name, value),
        other => panic!("{other:?}"),
    };
    rules(&[layer]).into_iter().map(threshold).collect()
}

#[test]
fn queues_are_nearly_full_at_four_fifths_of_their_bound() {
    for (layer, figure, setting, rule) in [
        ("batch", "waiting", "max_waiting", "waiting"),
        ("redis", "commands_queued", "max_queued", "commands_queued"),
        ("http", "calls_waiting", "max_waiting", "max_waiting"),
    ] {
        let of = |value| fake(layer, "defaults-full", &[(figure, None)], &[(setting, value)]);
        let name = format!("{layer} defaults-full {rule}");
        assert!(thresholds(of(SettingValue::Count(101))).contains(&(name.clone(), 81.0)), "{layer}");
        assert!(!thresholds(of(SettingValue::Off)).iter().any(|(known, _)| *known == name), "{layer}");
    }
}

#[test]
fn a_limiter_may_refuse_a_tenth_of_its_lowest_rate_unless_each_key_has_one() {
    let settings = [
        ("limit", SettingValue::Count(200)),
        ("per", SettingValue::Duration(Duration::from_secs(1))),
        ("limit_2", SettingValue::Count(420)),
        ("per_2", SettingValue::Duration(Duration::from_secs(60))),
    ];
    let plain = |settings| fake("rate-limit", "defaults-rate", &[("waiting", None)], settings);
    let name = "rate-limit defaults-rate rejections".to_owned();
    assert_eq!(thresholds(plain(&settings[..2])), [(name.clone(), 20.0)]);
    assert_eq!(thresholds(plain(&settings)), [(name, 0.7)]);
    assert_eq!(thresholds(plain(&settings[..1])), [], "no time");
    let never = [settings[0], ("per", SettingValue::Duration(Duration::ZERO))];
    assert_eq!(thresholds(plain(&never)), []);
    let keyed = fake("rate-limit", "defaults-keyed", &[("keys", None)], &settings);
    assert_eq!(thresholds(keyed), []);
}
