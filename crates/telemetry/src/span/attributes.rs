//! What a span says, in OpenTelemetry's words. All text is bounded: it may come from a peer.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use buttress_core::Decision;
use opentelemetry::{KeyValue, Value, trace::Event};
use tokio::time::Instant;

use super::SpanEnd;
use crate::{Label, Side};

/// No name and no value of a span is longer, in bytes.
pub(super) const MAX_TEXT: usize = 512;

/// The name of the events that say what a layer decided.
pub(super) const DECISION: &str = "decision";
pub(super) const DECISION_TARGET: &str = "buttress::decision";

/// As much of it as fits.
pub(super) fn bounded(text: &str) -> &str {
    match text.len() {
        0..=MAX_TEXT => text,
        _ => &text[..(0..=MAX_TEXT).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0)],
    }
}

pub(super) fn value(label: &Label) -> Value {
    match label {
        Label::Text(Cow::Borrowed(text)) => bounded(text).into(),
        Label::Text(Cow::Owned(text)) => bounded(text).to_owned().into(),
        Label::Number(number) => (*number).into(),
    }
}

pub(super) fn pair((key, label): &(&'static str, Label)) -> KeyValue {
    KeyValue::new(*key, value(label))
}

/// As `tracing-opentelemetry` reads it.
pub(super) const fn kind_word(side: Side) -> &'static str {
    match side {
        Side::Client => "client",
        Side::Server => "server",
        Side::Internal => "internal",
    }
}

impl SpanEnd<'_> {
    /// The kind of error, where it was one.
    pub(super) fn error_type(&self) -> Option<&str> {
        match self.error {
            Some(error) => Some(bounded(error)),
            // So the conventions want it where there is no better word.
            None if self.end.is_bad() => Some("_OTHER"),
            None => None,
        }
    }

    /// Its decisions, and how long after the call's beginning each was made.
    pub(super) fn decisions(&self) -> impl Iterator<Item = (&Decision, Duration)> {
        let now = Instant::now();
        self.decisions.iter().map(move |decision| {
            (decision, self.latency.saturating_sub(now.saturating_duration_since(decision.at)))
        })
    }

    /// They as events of a span that ended at `now`, each at its own time.
    pub(super) fn events(&self, now: SystemTime) -> impl Iterator<Item = Event> {
        self.decisions().map(move |(decision, after)| {
            let at = now.checked_sub(self.latency.saturating_sub(after)).unwrap_or(now);
            let attributes = vec![
                KeyValue::new("target", DECISION_TARGET),
                KeyValue::new("layer", decision.origin.layer()),
                KeyValue::new("name", decision.origin.name()),
                KeyValue::new("what", decision.what),
                KeyValue::new("why", bounded(&decision.why).to_owned()),
                KeyValue::new("after_ms", milliseconds(after)),
            ];
            Event::new(DECISION, at, attributes, 0)
        })
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
