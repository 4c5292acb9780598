//! The span of one call. Without the feature `opentelemetry` there is none, and all of this is nothing.

#[cfg(feature = "opentelemetry")]
mod attributes;
#[cfg(feature = "opentelemetry")]
mod call;
#[cfg(feature = "otlp")]
mod head;
#[cfg(not(feature = "opentelemetry"))]
mod off;
#[cfg(test)]
mod tests;

use std::time::Duration;

use buttress_core::Decision;

use crate::{Label, Side, source::End};

#[cfg(feature = "opentelemetry")]
pub(crate) use self::call::CallSpan;
#[cfg(feature = "otlp")]
pub(crate) use self::head::{Fixed, Head, Ids};
#[cfg(not(feature = "opentelemetry"))]
pub(crate) use self::off::CallSpan;

/// What all spans of one layer have in common.
#[derive(Debug)]
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "spans that are kept read all of it"))]
pub(crate) struct SpanSettings {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    pub(crate) common: Vec<(&'static str, Label)>,
}

/// How a call ended, for its span.
#[derive(Debug)]
#[cfg_attr(not(feature = "otlp"), allow(dead_code, reason = "spans that are kept read all of it"))]
pub(crate) struct SpanEnd<'a> {
    /// The operation's name for people, and its attributes.
    pub(crate) operation: &'a str,
    pub(crate) attributes: &'a [(&'static str, Label)],
    pub(crate) end: End,
    pub(crate) error: Option<&'a str>,
    pub(crate) latency: Duration,
    pub(crate) is_slow: bool,
    pub(crate) decisions: &'a [Decision],
}

/// Where a call can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceIds {
    pub(crate) trace: [u8; 16],
    pub(crate) span: [u8; 8],
}
