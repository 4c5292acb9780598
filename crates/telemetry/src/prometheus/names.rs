//! The names of this page, for those who ask Prometheus for them.

use super::{page::Kind, translate};
use crate::naming;

/// `buttress_circuit_breaker_rejections_total`.
pub(crate) fn figure(layer: &str, figure: &str, unit: &str, kind: crate::Kind) -> String {
    let kind = match kind {
        crate::Kind::Counter => Kind::Counter,
        crate::Kind::Gauge => Kind::Gauge,
    };
    let unit = if unit.is_ascii() && unit.len() <= 63 { unit } else { "" };
    translate::name(&naming::instrument(layer, figure), unit, kind)
}

/// `http_client_request_duration_seconds`.
pub(crate) fn histogram(metric: &str) -> String {
    translate::name(metric, "s", Kind::Histogram)
}

/// `buttress_reason`.
pub(crate) fn label(key: &str) -> String {
    translate::label_name(&format!("buttress.{key}"))
}

/// `buttress_name="orders",buttress_reason="timed_out"`.
pub(crate) fn labels(name: Option<&str>, label: Option<(&str, &str)>) -> String {
    let name = name.map(|name| ("buttress.name".to_owned(), naming::value(name)));
    let label = label.map(|(key, value)| (format!("buttress.{key}"), naming::value(value)));
    let all: Vec<_> = name.iter().chain(&label).map(|(key, value)| (key.as_str(), &**value)).collect();
    translate::labels(&all)
}
