use std::fmt::Write;

use super::promql::{Names, duration};
use crate::{Registry, Rule};

/// The same rules for Prometheus, as the YAML of a file of rules, a group for each kind of layer.
///
/// They are about the metrics of the [page of Prometheus](Registry::prometheus), or of an export by OTLP that Prometheus
/// receives, and mean what they mean within the program, but for three things. Objectives are those of all processes of a job
/// together, everything else of each process. Quantiles are read from a histogram's buckets, so they are less exact. And a
/// window has to hold several scrapes: short ones are for tests.
///
/// Quantiles and slow calls are read from the histograms of the page alone: by OTLP latencies arrive as exponential ones.
///
/// The figures of calls are those of telemetry layers that are [registered](Registry::register) as layers, too.
#[must_use]
pub fn prometheus_rules(registry: &Registry, rules: &[Rule]) -> String {
    let names = Names::of(registry);
    let mut layers: Vec<&str> = Vec::new();
    for rule in rules {
        if !layers.contains(&rule.layer()) {
            layers.push(rule.layer());
        }
    }
    let mut yaml = String::from("# Generated from the settings of the program's layers.\ngroups:");
    if layers.is_empty() {
        yaml.push_str(" []");
    }
    yaml.push('\n');
    for layer in layers {
        _ = write!(yaml, "  - name: {}\n    rules:\n", quoted(&format!("buttress {layer}")));
        rules.iter().filter(|rule| rule.layer() == layer).for_each(|rule| add(&mut yaml, &names, rule));
    }
    yaml
}

fn add(yaml: &mut String, names: &Names, rule: &Rule) {
    let mut line = |text: &str| _ = writeln!(yaml, "      {text}");
    line(&format!("- alert: {}", quoted(&rule.name)));
    line(&format!("  expr: {}", quoted(&names.condition(rule))));
    if !rule.hold.is_zero() {
        line(&format!("  for: {}", duration(rule.hold)));
    }
    line("  labels:");
    line(&format!("    severity: {}", rule.severity.word()));
    line(&format!("    layer: {}", quoted(&plain(rule.layer()))));
    line("  annotations:");
    line(&format!("    summary: {}", quoted(&plain(&rule.says()))));
    let figure = "{{ $labels.buttress_name }}: {{ $value | humanize }}";
    line(&format!("    description: {}", quoted(figure)));
}

/// Text in which a template finds nothing to do.
fn plain(text: &str) -> String {
    text.replace("{{", "{{ \"{{\" }}")
}

/// A string of YAML, whatever is in it.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c if c.is_control() => _ = write!(quoted, "\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
