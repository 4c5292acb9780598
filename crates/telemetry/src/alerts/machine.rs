use std::collections::BTreeMap;

use tokio::time::Instant;

use super::{
    Alert, AlertState, AlertStatus, Change, Cleared, Rule,
    history::History,
    rule::Condition,
    subject::{Of, Raw, Reading},
};
use crate::Snapshot;

/// Which alerts there are: rules that are told what a registry knows, now and then. It has no clock.
#[derive(Debug)]
pub(crate) struct Machine(Vec<Watched>);

/// A rule with what it knows of each instance: no more of them than the registry has layers.
#[derive(Debug)]
struct Watched {
    rule: Rule,
    instances: BTreeMap<&'static str, Instance>,
}

#[derive(Debug, Default)]
struct Instance {
    source: u64,
    histories: Vec<History>,
    held: Option<Held>,
}

#[derive(Debug)]
struct Held {
    since: Instant,
    state: AlertState,
}

/// What a rule makes of one instance.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Verdict {
    Holds { value: f64, threshold: f64 },
    Fine,
    NoData,
}

impl Machine {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self(rules.into_iter().map(|rule| Watched { rule, instances: BTreeMap::new() }).collect())
    }

    /// Looks at a snapshot, which must not be older than the last one: what fires and clears by it.
    pub(crate) fn look(&mut self, now: Instant, snapshot: &Snapshot) -> Vec<Alert> {
        let mut alerts = Vec::new();
        for watched in &mut self.0 {
            watched.look(now, snapshot, &mut alerts);
        }
        alerts
    }

    /// What is pending or fires, in the order of the rules.
    pub(crate) fn active(&self) -> Vec<AlertState> {
        let instances = self.0.iter().flat_map(|watched| watched.instances.values());
        instances.filter_map(|instance| Some(instance.held.as_ref()?.state.clone())).collect()
    }
}

impl Watched {
    fn look(&mut self, now: Instant, snapshot: &Snapshot, alerts: &mut Vec<Alert>) {
        let found = self.rule.read(snapshot);
        let rule = &self.rule;
        self.instances.retain(|name, instance| {
            let is_there = found.iter().any(|reading| reading.instance == *name);
            if !is_there {
                alerts.extend(instance.end(Cleared::Gone, snapshot.at));
            }
            is_there
        });
        for reading in found {
            let name = reading.instance;
            let instance = self.instances.entry(name).or_default();
            match instance.verdict(rule, now, reading) {
                Verdict::Holds { value, threshold } => {
                    alerts.extend(instance.hold(rule, name, (now, snapshot.at), value, threshold));
                }
                Verdict::Fine => alerts.extend(instance.end(Cleared::Recovered, snapshot.at)),
                Verdict::NoData => alerts.extend(instance.end(Cleared::NoData, snapshot.at)),
            }
        }
    }
}

impl Rule {
    fn read(&self, snapshot: &Snapshot) -> Vec<Reading> {
        match &self.condition {
            Condition::Threshold { subject, .. } | Condition::Between { subject, .. } => {
                subject.read(snapshot)
            }
            Condition::BurnRate { slo, .. } => {
                let calls = snapshot.calls(&slo.calls).into_iter();
                calls.map(|calls| Reading::of(calls, slo.read(calls))).collect()
            }
        }
    }
}

impl Instance {
    fn verdict(&mut self, rule: &Rule, now: Instant, Reading { source, raw, .. }: Reading) -> Verdict {
        if std::mem::replace(&mut self.source, source) != source {
            self.histories.iter_mut().for_each(History::begin_again);
        }
        let (subject, judge): (_, &dyn Fn(f64) -> (bool, f64)) = match &rule.condition {
            Condition::Threshold { subject, comparison, value } => {
                (subject, &|figure| (comparison.holds(figure, *value), *value))
            }
            Condition::Between { subject, range } => {
                (subject, &|figure| (range.contains(&figure), *range.start()))
            }
            Condition::BurnRate { slo, windows } => {
                if self.histories.is_empty() {
                    let all = windows.iter().flat_map(|it| [it.long, it.short]);
                    self.histories = all.map(History::new).collect();
                }
                self.histories.iter_mut().for_each(|history| history.push(now, raw.clone()));
                let mut verdict = Verdict::NoData;
                for (pair, window) in self.histories.chunks(2).zip(windows) {
                    let (Some(long), Some(short)) = (pair[0].figure(None), pair[1].figure(None)) else {
                        continue;
                    };
                    let limit = slo.limit(window.factor);
                    if long > limit && short > limit {
                        return Verdict::Holds { value: long / slo.budget(), threshold: window.factor };
                    }
                    verdict = Verdict::Fine;
                }
                return verdict;
            }
        };
        let figure = match (subject.window, raw) {
            (None, Raw::Number(figure)) => Some(figure),
            (None, _) => None,
            (Some(window), raw) => {
                if self.histories.is_empty() {
                    self.histories.push(History::new(window));
                }
                let quantile = match subject.of {
                    Of::Calls(figure) => figure.quantile(),
                    Of::Layer { .. } => None,
                };
                self.histories[0].push(now, raw);
                self.histories[0].figure(quantile)
            }
        };
        match figure.filter(|figure| !figure.is_nan()).map(|figure| (figure, judge(figure))) {
            Some((value, (true, threshold))) => Verdict::Holds { value, threshold },
            Some(_) => Verdict::Fine,
            None => Verdict::NoData,
        }
    }

    fn hold(
        &mut self,
        rule: &Rule,
        name: &'static str,
        (now, at): (Instant, u64),
        value: f64,
        threshold: f64,
    ) -> Option<Alert> {
        let held = self.held.get_or_insert_with(|| Held {
            since: now,
            state: AlertState {
                rule: rule.name.clone(),
                severity: rule.severity,
                layer: rule.layer().to_owned(),
                instance: name,
                status: AlertStatus::Pending,
                since: at,
                value,
                threshold,
                summary: rule.says(),
            },
        });
        (held.state.value, held.state.threshold) = (value, threshold);
        let fires = held.state.status == AlertStatus::Pending && now.duration_since(held.since) >= rule.hold;
        fires.then(|| {
            held.state.status = AlertStatus::Firing;
            Alert { change: Change::Fired, at, state: held.state.clone() }
        })
    }

    fn end(&mut self, why: Cleared, at: u64) -> Option<Alert> {
        let mut state = self.held.take()?.state;
        (state.status == AlertStatus::Firing).then(|| {
            state.status = AlertStatus::Cleared;
            Alert { change: Change::Cleared(why), at, state }
        })
    }
}

#[cfg(test)]
mod tests;
