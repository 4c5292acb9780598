use std::{collections::HashSet, time::Duration};

use super::{CallsFigure, Comparison, Rule, Severity, Subject};
use crate::{LayerSnapshot, Registry, SettingWord, Snapshot};

/// Rules for the layers that are registered now, by what they are set to. A setting that a layer does not tell has no rule,
/// but for those with a default below.
///
/// | layer | fires when |
/// |---|---|
/// | circuit-breaker | it has not let all calls through for longer than `open_for` (30 s if it is not told), since it is open, half-open or forced open; critical |
/// | bulkhead | 80 % of `queue_capacity` wait for 30 s |
/// | postgres | callers have waited for a connection for 30 s; some gave up (`wait_timeouts`) |
/// | rate-limit, cluster | its store has been away for 30 s |
/// | retry | its budget refused a retry within 5 minutes, for a minute |
/// | health | it is not ready for 30 s, critical; one of its parts is down for 30 s |
/// | balance | endpoints are ejected for a minute; it has panicked (too few are left), critical |
/// | redis | it has had no connection for 30 s; critical |
/// | bulkhead, timeout | they refuse or give up more than one call per second over 5 minutes, for 5 minutes |
/// | telemetry | 5 % of the calls fail over 5 minutes, for 5 minutes, critical; 5 % are rejected; their p99 is over 90 % of the `limit` of the outermost timeout in the same stack, for 5 minutes |
#[must_use]
pub fn default_rules(registry: &Registry) -> Vec<Rule> {
    let snapshot = registry.snapshot();
    let mut rules = Vec::new();
    for layer in &snapshot.layers {
        let of = Of { layer };
        match layer.layer {
            "circuit-breaker" => of.breaker(&mut rules),
            "bulkhead" => of.bulkhead(&mut rules),
            "postgres" => of.postgres(&mut rules),
            "retry" => of.retry(&mut rules),
            "health" => of.health(&mut rules),
            "balance" => of.balance(&mut rules),
            "redis" => of.redis(&mut rules),
            "telemetry" => of.calls(&snapshot, &mut rules),
            _ => {}
        }
        if of.has("store_is_away") {
            rules.push(of.above(
                "store_is_away",
                0.0,
                HALF_A_MINUTE,
                "its store is away: each node counts alone",
            ));
        }
        if matches!(layer.layer, "bulkhead" | "timeout") {
            let subject = of.figure("rejections").over(FIVE_MINUTES);
            rules.push(
                Rule::threshold(of.name("rejections"), subject, Comparison::Above, 1.0)
                    .for_at_least(FIVE_MINUTES)
                    .summary(of.says("refuses more than a call per second")),
            );
        }
    }
    // Names that say the same, of layers that are called so, are told apart.
    let mut names = HashSet::new();
    for rule in &mut rules {
        let plain = rule.name.clone();
        let mut number = 1;
        while !names.insert(rule.name.clone()) {
            number += 1;
            rule.name = super::rule::fitting(format!("{number} {plain}"));
        }
    }
    rules
}

const HALF_A_MINUTE: Duration = Duration::from_secs(30);
const MINUTE: Duration = Duration::from_secs(60);
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// A layer that rules are made for.
struct Of<'a> {
    layer: &'a LayerSnapshot,
}

impl Of<'_> {
    fn breaker(&self, rules: &mut Vec<Rule>) {
        if !self.has("state") {
            // One with many keys.
            if self.has("breakers") {
                let open = self.figure("breakers").labelled("state", "open");
                rules.push(
                    Rule::threshold(self.name("open"), open, Comparison::Above, 0.0)
                        .for_at_least(self.seconds("open_for").unwrap_or(HALF_A_MINUTE))
                        .summary(self.says("has open breakers")),
                );
            }
            return;
        }
        rules.push(
            Rule::between(self.name("open"), self.figure("state"), 1.0..=3.0)
                .for_at_least(self.seconds("open_for").unwrap_or(HALF_A_MINUTE))
                .severity(Severity::Critical)
                .summary(self.says("does not let all calls through")),
        );
    }

    fn bulkhead(&self, rules: &mut Vec<Rule>) {
        if let Some(capacity) = self.count("queue_capacity").filter(|capacity| *capacity > 0.0) {
            let most = (capacity * 0.8).ceil();
            let subject = self.figure("waiting");
            rules.push(
                Rule::threshold(self.name("waiting"), subject, Comparison::AtLeast, most)
                    .for_at_least(HALF_A_MINUTE)
                    .summary(self.says(&format!("has {most} of {capacity} places to wait taken"))),
            );
        }
    }

    fn postgres(&self, rules: &mut Vec<Rule>) {
        if self.has("connections_max") && self.has("waiting") {
            let says = "has callers that wait for a connection: its pool is exhausted";
            rules.push(self.above("waiting", 0.0, HALF_A_MINUTE, says));
        }
        if self.has("wait_timeouts") {
            rules.push(self.grows("wait_timeouts", "has callers that waited for a connection in vain"));
        }
    }

    fn retry(&self, rules: &mut Vec<Rule>) {
        if self.has("budget_exhausted") {
            rules.push(self.grows("budget_exhausted", "has spent its budget: failures are not retried"));
        }
    }

    fn health(&self, rules: &mut Vec<Rule>) {
        if self.has("ready") {
            let ready = self.figure("ready");
            rules.push(
                Rule::threshold(self.name("ready"), ready, Comparison::Below, 1.0)
                    .for_at_least(HALF_A_MINUTE)
                    .severity(Severity::Critical)
                    .summary(self.says("is not ready")),
            );
        }
        let parts = self.layer.figures.iter().filter(|figure| figure.name == "up");
        for (key, part) in parts.filter_map(|figure| figure.label) {
            let up = self.figure("up").labelled(key, part);
            rules.push(
                Rule::threshold(self.name(&format!("up {part}")), up, Comparison::Below, 1.0)
                    .for_at_least(HALF_A_MINUTE)
                    .summary(self.says(&format!("has a part that is down: {part}"))),
            );
        }
    }

    fn balance(&self, rules: &mut Vec<Rule>) {
        if self.has("ejected") {
            rules.push(self.above("ejected", 0.0, MINUTE, "has ejected endpoints"));
        }
        if self.has("panic") {
            let says = "has too few good endpoints, and uses all";
            rules.push(self.above("panic", 0.0, MINUTE, says).severity(Severity::Critical));
        }
    }

    fn redis(&self, rules: &mut Vec<Rule>) {
        if self.has("connections") {
            rules.push(
                Rule::threshold(self.name("connections"), self.figure("connections"), Comparison::Below, 1.0)
                    .for_at_least(HALF_A_MINUTE)
                    .severity(Severity::Critical)
                    .summary(self.says("has no connection")),
            );
        }
    }

    fn calls(&self, snapshot: &Snapshot, rules: &mut Vec<Rule>) {
        let name = self.layer.name;
        let over = |suffix: &str, figure, threshold, says: String| {
            let subject = Subject::calls(figure).of(name).over(FIVE_MINUTES);
            Rule::threshold(self.name(suffix), subject, Comparison::Above, threshold)
                .for_at_least(FIVE_MINUTES)
                .summary(self.says(&says))
        };
        rules.push(
            over("errors", CallsFigure::ErrorShare, 0.05, "sees more than 5 % of its calls fail".to_owned())
                .severity(Severity::Critical),
        );
        let says = "sees more than 5 % of its calls refused".to_owned();
        rules.push(over("rejected", CallsFigure::RejectedShare, 0.05, says));
        if let Some(limit) = snapshot.timeout_beside(self.layer) {
            let near = (limit * 0.9 * 1e9).round() / 1e9;
            let says = format!("has a p99 over {near} s, where calls end after {limit} s");
            rules.push(over("p99", CallsFigure::P99, near, says));
        }
    }

    fn above(&self, figure: &str, threshold: f64, hold: Duration, says: &str) -> Rule {
        Rule::threshold(self.name(figure), self.figure(figure), Comparison::Above, threshold)
            .for_at_least(hold)
            .summary(self.says(says))
    }

    fn grows(&self, figure: &str, says: &str) -> Rule {
        let subject = self.figure(figure).over(FIVE_MINUTES);
        Rule::threshold(self.name(figure), subject, Comparison::Above, 0.0)
            .for_at_least(MINUTE)
            .summary(self.says(says))
    }

    fn figure(&self, figure: &str) -> Subject {
        Subject::figure(self.layer.layer, figure).of(self.layer.name)
    }

    /// The name of a rule. It is unique, as that of the layer is.
    fn name(&self, what: &str) -> String {
        let name = format!("{} {} {what}", self.layer.layer, self.layer.name);
        super::rule::fitting(name)
    }

    fn says(&self, what: &str) -> String {
        format!("{} {:?} {what}", self.layer.layer, self.layer.name)
    }

    fn has(&self, figure: &str) -> bool {
        self.layer.figures.iter().any(|known| known.name == figure)
    }

    fn count(&self, setting: &str) -> Option<f64> {
        match self.layer.setting(setting)? {
            #[expect(clippy::cast_precision_loss, reason = "a threshold")]
            SettingWord::Count(count) => Some(count as f64),
            _ => None,
        }
    }

    fn seconds(&self, setting: &str) -> Option<Duration> {
        self.layer.seconds(setting).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }
}

impl LayerSnapshot {
    fn setting(&self, name: &str) -> Option<SettingWord> {
        self.settings.iter().find(|setting| setting.name == name).map(|setting| setting.value)
    }

    fn seconds(&self, name: &str) -> Option<f64> {
        match self.setting(name)? {
            SettingWord::Seconds(seconds) if seconds.is_finite() && seconds > 0.0 => Some(seconds),
            _ => None,
        }
    }
}

impl Snapshot {
    /// The limit of the outermost timeout inside of that layer, in its first stack that has one.
    fn timeout_beside(&self, layer: &LayerSnapshot) -> Option<f64> {
        let is_it = |at: &usize| self.layers[*at].layer == layer.layer && self.layers[*at].name == layer.name;
        self.stacks.iter().find_map(|stack| {
            let place = stack.layers.iter().position(is_it)?;
            let inner = stack.layers[place..].iter().map(|at| &self.layers[*at]);
            inner.filter(|inner| inner.layer == "timeout").find_map(|inner| inner.seconds("limit"))
        })
    }
}

#[cfg(test)]
mod tests {
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
}
