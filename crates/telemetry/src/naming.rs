//! What figures are called outside: the names of instruments, and values of attributes that cannot break what reads them.

use std::{
    borrow::Cow,
    hash::{BuildHasher, Hasher},
};

use buttress_core::Metric;
use foldhash::fast::FixedState;

/// A longer value of an attribute is cut.
pub(crate) const MAX_VALUE: usize = 256;

/// The SDK takes no longer name.
const MAX_NAME: usize = 255;

/// `buttress.circuit_breaker.rejections`: what OpenTelemetry allows for in a name. Without a layer: `buttress.layers`.
pub(crate) fn instrument(layer: &str, metric: &str) -> String {
    let mut name = String::from("buttress.");
    for (part, end) in [(layer, "."), (metric, "")] {
        if !part.is_empty() {
            name.extend(part.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
            name.push_str(end);
        }
    }
    name.truncate(MAX_NAME);
    name
}

/// The unit as UCUM writes it. Where things are counted it is an annotation.
pub(crate) fn unit(metric: &Metric) -> &'static str {
    if metric.unit.is_empty() || !metric.unit.is_ascii() || metric.unit.len() > 63 {
        "{item}"
    } else {
        metric.unit
    }
}

/// What it says for people who meet it for the first time. `slow_calls` and `layers` are the registry's own.
pub(crate) fn description(layer: &str, metric: &str) -> String {
    let metric = metric.replace('_', " ");
    if layer.is_empty() {
        format!("How many {metric} there are.")
    } else {
        format!("{metric} of each {layer}.")
    }
}

/// The value of an attribute: at most [`MAX_VALUE`] bytes, and no control character but a line break and a tabulator.
///
/// One that has to be changed ends in a hash of what it was: two names that differ stay two, since a page with two samples
/// of one name is refused as a whole. The replacement character is changed too: Prometheus takes it for a mistake wherever a
/// rule speaks of it.
pub(crate) fn value(text: &str) -> Cow<'_, str> {
    let is_bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || c == char::REPLACEMENT_CHARACTER;
    if text.len() <= MAX_VALUE && !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut hasher = FixedState::default().build_hasher();
    hasher.write(text.as_bytes());
    let hash = format!("~{:016x}", hasher.finish());
    let mut changed = String::with_capacity(MAX_VALUE);
    for c in text.chars().map(|c| if is_bad(c) { '?' } else { c }) {
        if changed.len() + c.len_utf8() + hash.len() > MAX_VALUE {
            break;
        }
        changed.push(c);
    }
    changed.push_str(&hash);
    Cow::Owned(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_sdk_takes() {
        assert_eq!(instrument("circuit-breaker", "rejections"), "buttress.circuit_breaker.rejections");
        assert_eq!(instrument("", "layers"), "buttress.layers");
        assert_eq!(instrument("ä\n\"", "x y"), "buttress.___.x_y");
        assert_eq!(instrument(&"l".repeat(300), "m").len(), 255);
    }

    #[test]
    fn a_value_is_short_and_printable_and_still_its_own() {
        for plain in ["orders", "", "a \"b\"\\\n\t", "größe", "日本"] {
            assert_eq!(value(plain), plain);
        }
        let long = "é".repeat(5000);
        let others = [long.clone() + "a", long, "a\0".into(), "a\u{1}".into(), "a\u{fffd}".into()];
        let values: std::collections::HashSet<_> = others.iter().map(|text| value(text)).collect();
        assert_eq!(values.len(), others.len());
        assert!(values.iter().all(|value| value.len() <= MAX_VALUE && !value.contains(char::is_control)));
    }
}
