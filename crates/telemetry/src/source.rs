use std::time::SystemTime;

use buttress_core::Origin;

use crate::{Label, Sketch};

/// What keeps the latencies of calls: the state of a telemetry layer. The registry and the exporters read it.
pub(crate) trait Source: Send + Sync {
    /// Whose calls.
    fn origin(&self) -> Origin;

    /// The metric of its latencies, such as `http.client.request.duration`.
    #[cfg(feature = "generate")]
    fn metric(&self) -> &'static str;

    /// Calls that have begun and not ended.
    fn in_flight(&self) -> u64;

    /// Another one of the same name has another number.
    fn number(&self) -> u64;

    /// Every series, in a fixed order. It takes no lock that a call waits for.
    fn series(&self, visit: &mut dyn FnMut(Series<'_>));
}

/// The calls of one operation that ended in one way.
#[derive(Debug)]
#[cfg_attr(
    not(all(feature = "otlp", feature = "prometheus")),
    allow(dead_code, reason = "the exporters read all of it")
)]
pub(crate) struct Series<'a> {
    /// The metric that a semantic convention names, such as `http.client.request.duration`, in seconds.
    pub(crate) metric: &'static str,
    /// Its attributes.
    pub(crate) attributes: &'a [(&'static str, Label)],
    /// What was called, in a few words: `GET /users/{id}`.
    pub(crate) operation: &'a str,
    /// How it ended.
    pub(crate) end: End,
    /// The kind of error, where it was one: `timed_out`, `503`, `40001`.
    pub(crate) error: Option<&'a str>,
    pub(crate) latencies: Sketch,
    pub(crate) exemplars: Vec<Exemplar>,
    /// Since when it counts.
    pub(crate) since: SystemTime,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Failure,
    /// The caller's own mistake.
    Ignored,
    Throttled,
    /// A layer of ours refused it or gave it up.
    Rejected,
    /// Its future was dropped.
    Cancelled,
    Panicked,
}

impl End {
    pub(crate) const ALL: [Self; 7] = [
        Self::Success,
        Self::Failure,
        Self::Ignored,
        Self::Throttled,
        Self::Rejected,
        Self::Cancelled,
        Self::Panicked,
    ];

    /// Whether the call went wrong, by its own end.
    pub(crate) const fn is_bad(self) -> bool {
        matches!(self, Self::Failure | Self::Throttled | Self::Rejected | Self::Panicked)
    }

    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Ignored => "ignored",
            Self::Throttled => "throttled",
            Self::Rejected => "rejected",
            Self::Cancelled => "cancelled",
            Self::Panicked => "panicked",
        }
    }
}

/// One call, and the trace in which it can be looked up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) seconds: f64,
    pub(crate) at: SystemTime,
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
}
