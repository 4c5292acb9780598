use std::{collections::HashSet, time::Duration};

use super::{CallsFigure, Comparison, Rule, Severity, Subject};
use crate::{LayerSnapshot, Registry, SettingWord, Snapshot};

/// Rules for the layers that are registered now, by what they are set to. A setting that a layer does not tell has no rule,
/// but for those with a default below.
///
/// | layer | fires when |
/// |---|---|
/// | circuit-breaker | it has not let all calls through for longer than `open_for` (30 s if it is not told), since it is open, half-open or forced open; critical |
/// | bulkhead, batch, http, redis | 80 % of `queue_capacity`, `max_waiting` or `max_queued` wait for 30 s |
/// | postgres, http | callers have waited for a connection for 30 s; some gave up (`wait_timeouts`) |
/// | rate-limit | it refuses a tenth as many calls as its lowest rate lets through, over 5 minutes and for 5 minutes; not where each key has a limit. In a cluster, its store has been away for 30 s |
/// | cache, redis-cache | its store failed within 5 minutes, for a minute; it has not been connected for 30 s |
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
            "bulkhead" => of.queue("waiting", "waiting", "queue_capacity", &mut rules),
            "batch" => of.queue("waiting", "waiting", "max_waiting", &mut rules),
            "http" => of.http(&mut rules),
            "cache" => of.cache(&mut rules),
            "rate-limit" => of.rate_limit(&mut rules),
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
        if of.has("connected") {
            rules.push(of.is_zero("connected", "is not connected"));
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

    /// Those that wait, of so many places.
    fn queue(&self, name: &str, figure: &str, setting: &str, rules: &mut Vec<Rule>) {
        let capacity = self.count(setting).filter(|capacity| *capacity > 0.0);
        if let Some(capacity) = capacity.filter(|_| self.has(figure)) {
            let most = (capacity * 0.8).ceil();
            rules.push(
                Rule::threshold(self.name(name), self.figure(figure), Comparison::AtLeast, most)
                    .for_at_least(HALF_A_MINUTE)
                    .summary(self.says(&format!("has {most} of {capacity} places to wait taken"))),
            );
        }
    }

    fn http(&self, rules: &mut Vec<Rule>) {
        if self.has("calls_waiting") {
            let says = "has calls that wait for a connection: none is left";
            rules.push(self.above("calls_waiting", 0.0, HALF_A_MINUTE, says));
        }
        self.queue("max_waiting", "calls_waiting", "max_waiting", rules);
    }

    fn cache(&self, rules: &mut Vec<Rule>) {
        let has_store = !matches!(self.layer.setting("store"), Some(SettingWord::Off));
        if has_store && self.has("store_errors") {
            rules.push(self.grows("store_errors", "has a store that fails"));
        }
    }

    fn rate_limit(&self, rules: &mut Vec<Rule>) {
        let limits = [("limit", "per"), ("limit_2", "per_2"), ("limit_3", "per_3"), ("limit_4", "per_4")];
        let rates =
            limits.into_iter().filter_map(|(limit, per)| Some(self.count(limit)? / self.layer.seconds(per)?));
        let Some(rate) = rates.min_by(f64::total_cmp).filter(|rate| *rate > 0.0 && !self.has("keys")) else {
            return;
        };
        let subject = self.figure("rejections").over(FIVE_MINUTES);
        rules.push(
            Rule::threshold(self.name("rejections"), subject, Comparison::Above, round(rate * 0.1))
                .for_at_least(FIVE_MINUTES)
                .summary(self.says("refuses a tenth as many calls as it lets through")),
        );
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
            let rule = self.is_zero("connections", "has no connection");
            rules.push(rule.severity(Severity::Critical));
        }
        self.queue("commands_queued", "commands_queued", "max_queued", rules);
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
            let near = round(limit * 0.9);
            let says = format!("has a p99 over {near} s, where calls end after {limit} s");
            rules.push(over("p99", CallsFigure::P99, near, says));
        }
    }

    fn above(&self, figure: &str, threshold: f64, hold: Duration, says: &str) -> Rule {
        Rule::threshold(self.name(figure), self.figure(figure), Comparison::Above, threshold)
            .for_at_least(hold)
            .summary(self.says(says))
    }

    fn is_zero(&self, figure: &str, says: &str) -> Rule {
        Rule::threshold(self.name(figure), self.figure(figure), Comparison::Below, 1.0)
            .for_at_least(HALF_A_MINUTE)
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

/// 0.9 times 0.7 is 0.63 for people.
fn round(figure: f64) -> f64 {
    (figure * 1e9).round() / 1e9
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
mod tests;
