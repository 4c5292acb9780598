use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use serde_json::{Value, json};

use super::promql::{Names, duration, selector};
use crate::{
    Comparison, Figure, Kind, LayerSnapshot, Registry, Rule,
    alerts::{Condition, Of},
    prometheus::names,
};

/// A dashboard for Grafana, to be imported: a row for each stack, in it the layers from the outermost to the innermost. Each
/// has a panel with its figures, and one for each of its rules, whose thresholds are drawn as lines.
///
/// The rules are those that [`prometheus_rules`](crate::prometheus_rules) was given. The dashboard's uid is made from its
/// title, so that a new one takes the place of an old one.
#[must_use]
pub fn grafana_dashboard(registry: &Registry, title: &str, rules: &[Rule]) -> Value {
    let names = Names::of(registry);
    let mut page = Page::default();
    let mut drawn = vec![false; rules.len()];
    let snapshot = &names.snapshot;
    let mut is_shown = vec![false; snapshot.layers.len()];
    let mut rows: Vec<(String, Vec<usize>)> =
        snapshot.stacks.iter().map(|stack| (stack.name.clone(), stack.layers.clone())).collect();
    rows.iter().flat_map(|(_, layers)| layers).for_each(|at| is_shown[*at] = true);
    let others: Vec<usize> = (0..is_shown.len()).filter(|at| !is_shown[*at]).collect();
    if !others.is_empty() {
        rows.push(("Others".to_owned(), others));
    }
    for (row, layers) in rows {
        page.row(&row);
        for layer in layers.into_iter().map(|at| &snapshot.layers[at]) {
            page.layer(layer);
            for (rule, drawn) in rules.iter().zip(&mut drawn) {
                if rule.layer() == layer.layer && rule.instance() == Some(layer.name) {
                    page.rule(&names, rule);
                    *drawn = true;
                }
            }
        }
    }
    let mut rest = rules.iter().zip(drawn).filter(|(_, drawn)| !drawn).map(|(rule, _)| rule).peekable();
    if rest.peek().is_some() {
        page.row("Rules");
        rest.for_each(|rule| page.rule(&names, rule));
    }
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(title.as_bytes());
    json!({
        "title": title,
        "uid": format!("buttress-{:016x}", hasher.finish()),
        "tags": ["buttress"],
        "schemaVersion": 39,
        "editable": true,
        "refresh": "30s",
        "time": { "from": "now-3h", "to": "now" },
        "templating": { "list": [{
            "name": "datasource",
            "label": "Data source",
            "type": "datasource",
            "query": "prometheus",
        }] },
        "panels": page.panels,
    })
}

/// Panels, one after the other, in a grid of 24 columns.
#[derive(Default)]
struct Page {
    panels: Vec<Value>,
    x: u32,
    y: u32,
}

const COLUMNS: u32 = 24;
const HEIGHT: u32 = 8;

impl Page {
    fn row(&mut self, title: &str) {
        self.wrap();
        let place = json!({ "x": 0, "y": self.y, "w": COLUMNS, "h": 1 });
        self.y += 1;
        let id = self.panels.len() + 1;
        self.panels.push(json!({
            "id": id, "type": "row", "title": title, "collapsed": false, "gridPos": place, "panels": [],
        }));
    }

    /// All figures of a layer.
    fn layer(&mut self, layer: &LayerSnapshot) {
        self.wrap();
        let mut known: Vec<&Figure> = Vec::new();
        for figure in &layer.figures {
            if !known.iter().any(|other| other.name == figure.name) {
                known.push(figure);
            }
        }
        let of_figure = |figure: &Figure| {
            let metric = names::figure(layer.layer, figure.name, figure.unit, figure.kind);
            let selector = selector(&metric, Some(layer.name), None, "");
            let legend = match figure.label {
                Some((key, _)) => {
                    format!("{} {{{{{}}}}} {{{{instance}}}}", figure.name, names::label(key))
                }
                None => format!("{} {{{{instance}}}}", figure.name),
            };
            match figure.kind {
                Kind::Counter => {
                    (format!("rate({selector}[$__rate_interval])"), legend.replacen(' ', "/s ", 1))
                }
                Kind::Gauge => (selector, legend),
            }
        };
        let mut targets: Vec<_> = known.into_iter().map(of_figure).collect();
        // It is counted from the first one on.
        if !layer.figures.iter().any(|figure| figure.name == "rejections") {
            let metric = names::figure(layer.layer, "rejections", "", Kind::Counter);
            let selector = selector(&metric, Some(layer.name), None, "");
            let legend = "rejections/s {{buttress_reason}} {{instance}}".to_owned();
            targets.push((format!("rate({selector}[$__rate_interval])"), legend));
        }
        let title = format!("{} {}", layer.layer, layer.name);
        self.panel(&title, &settings(layer), 12, &targets, "short", None);
    }

    /// The figure that a rule looks at, and the thresholds at which it fires.
    fn rule(&mut self, names: &Names, rule: &Rule) {
        let (targets, unit, steps) = match &rule.condition {
            Condition::Threshold { subject, comparison, value } => {
                let steps = match comparison {
                    Comparison::Above | Comparison::AtLeast => vec![(GOOD, None), (BAD, Some(*value))],
                    Comparison::Below | Comparison::AtMost => vec![(BAD, None), (GOOD, Some(*value))],
                };
                (vec![(names.subject(subject), INSTANCE.to_owned())], unit(&subject.of), steps)
            }
            Condition::Between { subject, range } => {
                let steps =
                    vec![(GOOD, None), (BAD, Some(*range.start())), (GOOD, Some(range.end().next_up()))];
                (vec![(names.subject(subject), INSTANCE.to_owned())], unit(&subject.of), steps)
            }
            Condition::BurnRate { slo, windows } => {
                let lengths = windows.iter().flat_map(|window| [window.long, window.short]);
                let targets = lengths
                    .map(|length| (names.bad_share(slo, length), format!("over {}", duration(length))));
                let mut limits: Vec<f64> = windows.iter().map(|window| slo.limit(window.factor)).collect();
                limits.sort_by(f64::total_cmp);
                let lines = limits.into_iter().map(|limit| (BAD, Some(limit)));
                let steps = [(GOOD, None)].into_iter().chain(lines).collect();
                (targets.collect(), "percentunit", steps)
            }
        };
        let hold =
            if rule.hold.is_zero() { "at once".to_owned() } else { format!("after {}", duration(rule.hold)) };
        let about = format!("{} ({}, {hold})", rule.says(), rule.severity.word());
        self.panel(&rule.name, &about, 6, &targets, unit, Some(&steps));
    }

    fn panel(
        &mut self,
        title: &str,
        about: &str,
        width: u32,
        targets: &[(String, String)],
        unit: &str,
        steps: Option<&[(&str, Option<f64>)]>,
    ) {
        if self.x + width > COLUMNS {
            self.wrap();
        }
        let place = json!({ "x": self.x, "y": self.y, "w": width, "h": HEIGHT });
        self.x += width;
        let source = json!({ "type": "prometheus", "uid": "${datasource}" });
        let targets: Vec<Value> = targets
            .iter()
            .enumerate()
            .map(|(at, (expr, legend))| {
                json!({ "refId": format!("Q{at}"), "expr": expr, "legendFormat": legend, "datasource": source })
            })
            .collect();
        let mut defaults = json!({ "unit": unit });
        if let Some(steps) = steps {
            let steps = steps.iter().map(|(color, value)| json!({ "color": color, "value": value }));
            defaults["thresholds"] = json!({ "mode": "absolute", "steps": steps.collect::<Vec<_>>() });
            defaults["custom"] = json!({ "thresholdsStyle": { "mode": "line" } });
        }
        let id = self.panels.len() + 1;
        self.panels.push(json!({
            "id": id,
            "type": "timeseries",
            "title": title,
            "description": about,
            "gridPos": place,
            "datasource": source,
            "fieldConfig": { "defaults": defaults, "overrides": [] },
            "targets": targets,
        }));
    }

    /// To the beginning of the next line.
    fn wrap(&mut self) {
        if self.x > 0 {
            (self.x, self.y) = (0, self.y + HEIGHT);
        }
    }
}

const GOOD: &str = "green";
const BAD: &str = "red";
const INSTANCE: &str = "{{buttress_name}} {{instance}}";

fn unit(of: &Of) -> &'static str {
    match of {
        Of::Calls(figure) if figure.quantile().is_some() => "s",
        Of::Calls(crate::CallsFigure::PerSecond) => "reqps",
        Of::Calls(_) => "percentunit",
        Of::Layer { .. } => "short",
    }
}

/// What a layer is set to.
fn settings(layer: &LayerSnapshot) -> String {
    use crate::SettingWord::{Count, Off, Ratio, Seconds, Word};
    let all = layer.settings.iter().map(|setting| match setting.value {
        Count(count) => format!("{}: {count}", setting.name),
        Ratio(ratio) => format!("{}: {ratio}", setting.name),
        Seconds(seconds) => format!("{}: {seconds} s", setting.name),
        Word(word) => format!("{}: {word}", setting.name),
        Off => format!("{}: off", setting.name),
    });
    all.collect::<Vec<_>>().join(", ")
}
