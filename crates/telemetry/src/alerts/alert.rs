use serde::Serialize;

use super::Severity;

/// What a rule says of one instance now.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AlertState {
    /// The rule's name.
    pub rule: String,
    /// How urgent.
    pub severity: Severity,
    /// The kind of layer: `circuit-breaker`; `telemetry` where it is about calls.
    pub layer: String,
    /// The instance's name.
    pub instance: &'static str,
    /// How far it is.
    pub status: AlertStatus,
    /// Since when it holds, in milliseconds of Unix time.
    pub since: u64,
    /// The figure. Of a burn rate, how many times as fast as allowed the budget burns in the long window.
    pub value: f64,
    /// What it is compared with.
    pub threshold: f64,
    /// What it says.
    pub summary: String,
}

/// How far an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AlertStatus {
    /// It holds, and not yet for long enough.
    Pending,
    /// It fires.
    Firing,
    /// It fired, and does not any more.
    Cleared,
}

/// An alert has fired or cleared.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Alert {
    /// Which way.
    #[serde(flatten)]
    pub change: Change,
    /// When, in milliseconds of Unix time.
    pub at: u64,
    /// What it is, or was when it last held.
    #[serde(flatten)]
    pub state: AlertState,
}

/// Which way an alert has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "change", content = "reason")]
#[non_exhaustive]
pub enum Change {
    /// It fires.
    Fired,
    /// It does not fire any more.
    Cleared(Cleared),
}

/// Why an alert cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Cleared {
    /// The figure is on the good side again.
    Recovered,
    /// The layer, or its figure, is not there any more.
    Gone,
    /// There is no figure: no calls came within the window, or it is no number.
    NoData,
}

impl Cleared {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::Gone => "gone",
            Self::NoData => "no_data",
        }
    }
}
