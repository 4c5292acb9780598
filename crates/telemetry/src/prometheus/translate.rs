//! What OpenTelemetry's names become in Prometheus.
//!
//! Source: OpenTelemetry specification, *Prometheus and OpenMetrics Compatibility*, and the translator of the Prometheus
//! project, `BuildCompliantName`.

use std::fmt::Write;

use super::page::Kind;

/// `http.client.request.duration` in seconds is `http_client_request_duration_seconds`.
pub(super) fn name(metric: &str, unit: &str, kind: Kind) -> String {
    let mut tokens: Vec<&str> = metric.split(|c: char| !c.is_ascii_alphanumeric()).collect();
    tokens.retain(|token| !token.is_empty());
    // An annotation such as `{item}` is no unit.
    let unit = match unit.split_once('{') {
        Some((before, _)) => before,
        None => unit,
    };
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let main = main_unit(main);
    if !main.is_empty() && !tokens.contains(&main) {
        tokens.push(main);
    }
    if !per.is_empty() && !tokens.contains(&per_unit(per)) {
        tokens.extend(["per", per_unit(per)]);
    }
    let end = match kind {
        Kind::Counter => "total",
        Kind::Gauge if unit == "1" => "ratio",
        _ => "",
    };
    if !end.is_empty() {
        tokens.retain(|token| *token != end);
        tokens.push(end);
    }
    let name = tokens.join("_");
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

fn main_unit(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "%" => "percent",
        "1" => "",
        other => plain(other),
    }
}

fn per_unit(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => plain(other),
    }
}

/// A unit that nobody knows, unless it would spoil the name.
fn plain(unit: &str) -> &str {
    if unit.bytes().all(|byte| byte.is_ascii_alphanumeric()) { unit } else { "" }
}

/// `a="x",b="y"`, sorted. Of labels whose names become one, the values are joined by `;`.
pub(super) fn labels(labels: &[(&str, &str)]) -> String {
    let mut all: Vec<(String, String)> = Vec::with_capacity(labels.len());
    for (key, value) in labels {
        let (key, value) = (label_name(key), escaped(value));
        match all.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => _ = write!(known, ";{value}"),
            None => all.push((key, value)),
        }
    }
    all.sort_unstable();
    let mut text = String::new();
    for (key, value) in all {
        let comma = if text.is_empty() { "" } else { "," };
        _ = write!(text, "{comma}{key}=\"{value}\"");
    }
    text
}

pub(super) fn label_name(key: &str) -> String {
    let name: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name == "le" || name.starts_with(|c: char| c.is_ascii_digit()) {
        // A histogram's buckets have a label of that name.
        format!("key_{name}")
    } else if name.is_empty() || name.starts_with('_') {
        // Those with two of them are Prometheus' own, and without a name a page cannot be read.
        format!("key{name}")
    } else {
        name
    }
}

fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str(r"\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str(r"\n"),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_opentelemetrys_translation() {
        use Kind::{Counter, Gauge, Histogram};
        for (metric, unit, kind, expected) in [
            (
                "buttress.circuit_breaker.rejections",
                "{item}",
                Counter,
                "buttress_circuit_breaker_rejections_total",
            ),
            ("http.client.request.duration", "s", Histogram, "http_client_request_duration_seconds"),
            ("buttress.timeout.wait", "s", Counter, "buttress_timeout_wait_seconds_total"),
            ("a.total.count", "", Counter, "a_count_total"),
            ("a.bytes", "By", Gauge, "a_bytes"),
            ("a.used", "1", Gauge, "a_used_ratio"),
            ("a.used", "1", Counter, "a_used_total"),
            ("a.rate", "By/s", Gauge, "a_rate_bytes_per_second"),
            ("a.rate", "{call}/s", Gauge, "a_rate"),
            ("1ä--b", "weird unit", Gauge, "_1_b"),
        ] {
            assert_eq!(name(metric, unit, kind), expected, "{metric} in {unit}");
        }
    }

    #[test]
    fn labels_are_escaped_and_their_names_plain() {
        let text = labels(&[("b.c", "x\"\\\ny"), ("1a", "1"), ("__x", "2"), ("b_c", "z")]);
        assert_eq!(text, "b_c=\"x\\\"\\\\\\ny;z\",key_1a=\"1\",key__x=\"2\"");
        assert_eq!(labels(&[("", "x"), ("ü", "y")]), "key=\"x\",key_=\"y\"");
    }
}
