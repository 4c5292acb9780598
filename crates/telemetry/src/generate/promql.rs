use std::time::Duration;

use crate::{CallsFigure, Rule, Slo};
use crate::{
    Convention, Kind, Plain, Registry, Snapshot, Subject,
    alerts::{Condition, Of},
    prometheus::names,
    sketch::{BOUNDS, Bound},
};

/// What a registry calls things in Prometheus.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) snapshot: Snapshot,
    /// Each telemetry layer's name and the metric of its latencies.
    latencies: Vec<(&'static str, &'static str)>,
}

/// An alert is a process's own, as it is within the program.
const BY: &str = "job, instance, buttress_name";

impl Names {
    pub(crate) fn of(registry: &Registry) -> Self {
        let sources = registry.sources();
        let latencies = sources.iter().map(|source| (source.origin().name(), source.metric()));
        Self { snapshot: registry.snapshot(), latencies: latencies.collect() }
    }

    /// The expression that has a result where the rule holds. Its value is the figure; of a burn rate, the share of bad calls.
    pub(crate) fn condition(&self, rule: &Rule) -> String {
        match &rule.condition {
            Condition::Threshold { subject, comparison, value } => {
                format!("{} {} {value}", self.subject(subject), comparison.sign())
            }
            Condition::Between { subject, range } => {
                format!("{} >= {} <= {}", self.subject(subject), range.start(), range.end())
            }
            Condition::BurnRate { slo, windows } => {
                let pairs = windows.iter().map(|window| {
                    let (long, short) = (self.bad_share(slo, window.long), self.bad_share(slo, window.short));
                    let limit = slo.limit(window.factor);
                    format!("({long} > {limit} and {short} > {limit})")
                });
                pairs.collect::<Vec<_>>().join(" or ")
            }
        }
    }

    /// The figure itself.
    pub(crate) fn subject(&self, subject: &Subject) -> String {
        let name = subject.name.as_deref();
        match (&subject.of, subject.window) {
            (Of::Layer { layer, figure, label }, window) => {
                let label = label.as_ref().map(|(key, value)| (key.as_str(), value.as_str()));
                let (metric, is_one) = self.figure(layer, figure, label.is_some(), window.is_some());
                let selector = selector(&metric, name, label, "");
                let selector = match window {
                    Some(window) => format!("rate({selector}[{}])", duration(window)),
                    None => selector,
                };
                if is_one { selector } else { format!("sum by ({BY}) ({selector})") }
            }
            (Of::Calls(figure), window) => self.calls(*figure, name, window.unwrap_or_default()),
        }
    }

    /// What a figure is called, and whether it is one series for each instance.
    fn figure(&self, layer: &str, figure: &str, is_labelled: bool, is_rate: bool) -> (String, bool) {
        let layers = self.snapshot.layers.iter().filter(|known| known.layer == layer);
        let known = layers.flat_map(|known| &known.figures).find(|known| known.name == figure);
        // What nobody has counted yet, such as rejections, has no unit.
        let guess = if is_rate { Kind::Counter } else { Kind::Gauge };
        let (unit, kind) = known.map_or(("", guess), |known| (known.unit, known.kind));
        let is_one = is_labelled || known.is_some_and(|known| known.label.is_none());
        (names::figure(layer, figure, unit, kind), is_one)
    }

    fn calls(&self, figure: CallsFigure, name: Option<&str>, window: Duration) -> String {
        match figure {
            CallsFigure::ErrorShare => share(name, BAD, window, BY),
            CallsFigure::RejectedShare => share(name, "buttress_end=\"rejected\"", window, BY),
            CallsFigure::PerSecond => ended(name, "", window, BY),
            CallsFigure::P50 | CallsFigure::P95 | CallsFigure::P99 => {
                let quantile = figure.quantile().unwrap_or_default();
                self.quantile(quantile, name, window)
            }
        }
    }

    /// The share of bad calls in a window: of all processes of a job together, since an objective is a service's.
    pub(crate) fn bad_share(&self, slo: &Slo, window: Duration) -> String {
        let (name, by) = (Some(&*slo.calls), "job, buttress_name");
        let matcher = if slo.rejected_are_bad { "buttress_end=~\"failure|panicked|rejected\"" } else { BAD };
        let Some(at) = slo.slower.and_then(Bound::called) else { return share(name, matcher, window, by) };
        let (bad, all) =
            (ended(name, matcher, window, by), ended(name, "buttress_end!=\"cancelled\"", window, by));
        let metric = names::histogram(self.metrics(name)[0]);
        let succeeded = |suffix: &str, le: &str| {
            let matcher = format!("buttress_end=\"success\"{le}");
            let selector = selector(&format!("{metric}_{suffix}"), name, None, &matcher);
            format!("sum by ({by}) (rate({selector}[{}]))", duration(window))
        };
        let le = match BOUNDS[at].seconds() {
            // Prometheus 3 calls it `1.0`.
            whole if whole.fract() == 0.0 => format!(",le=~\"{whole}|{whole}[.]0\""),
            seconds => format!(",le=\"{seconds}\""),
        };
        let (count, quick) = (succeeded("count", ""), succeeded("bucket", &le));
        // There is no histogram before the first success.
        format!("({bad} + ({count} - {quick}) or {bad}) / {all}")
    }

    fn quantile(&self, quantile: f64, name: Option<&str>, window: Duration) -> String {
        let each = self.metrics(name).into_iter().map(|metric| {
            let buckets = selector(&format!("{}_bucket", names::histogram(metric)), name, None, "");
            let rate = format!("rate({buckets}[{}])", duration(window));
            format!("histogram_quantile({quantile}, sum by ({BY}, le) ({rate}))")
        });
        let each: Vec<_> = each.collect();
        if each.len() == 1 { each.concat() } else { format!("({})", each.join(" or ")) }
    }
}

impl Names {
    /// What the latencies of the telemetry layers that are meant are called: at least one.
    fn metrics(&self, name: Option<&str>) -> Vec<&'static str> {
        let meant = self.latencies.iter().filter(|(known, _)| name.is_none_or(|name| name == *known));
        let mut metrics: Vec<_> = meant.map(|(_, metric)| *metric).collect();
        metrics.sort_unstable();
        metrics.dedup();
        if metrics.is_empty() {
            metrics.push(Plain.metric());
        }
        metrics
    }
}

const BAD: &str = "buttress_end=~\"failure|panicked\"";

fn share(name: Option<&str>, part: &str, window: Duration, by: &str) -> String {
    let all = ended(name, "buttress_end!=\"cancelled\"", window, by);
    format!("{} / {all}", ended(name, part, window, by))
}

fn ended(name: Option<&str>, matcher: &str, window: Duration, by: &str) -> String {
    let metric = names::figure("telemetry", "calls", "", Kind::Counter);
    format!("sum by ({by}) (rate({}[{}]))", selector(&metric, name, None, matcher), duration(window))
}

/// What Grafana would take for a variable is written as an escape.
pub(crate) fn selector(
    metric: &str,
    name: Option<&str>,
    label: Option<(&str, &str)>,
    matcher: &str,
) -> String {
    let labels = names::labels(name, label).replace('$', r"\x24").replace('[', r"\x5b");
    let comma = if labels.is_empty() || matcher.is_empty() { "" } else { "," };
    if labels.is_empty() && matcher.is_empty() {
        metric.to_owned()
    } else {
        format!("{metric}{{{labels}{comma}{matcher}}}")
    }
}

/// As Prometheus writes it, in whole milliseconds. It counts nanoseconds in 63 bits and refuses a file with more, so what is
/// longer is a hundred years.
pub(crate) fn duration(duration: Duration) -> String {
    const LONGEST: u128 = 100 * 365 * 24 * 3_600_000;
    let millis = duration.as_millis().min(LONGEST);
    for (unit, length) in [("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if millis > 0 && millis.is_multiple_of(length) {
            return format!("{}{unit}", millis / length);
        }
    }
    format!("{millis}ms")
}
