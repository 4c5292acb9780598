use std::time::Duration;

/// Virtual time since the simulation began. A word, since the machines compute with it at every event.
pub(crate) type Nanos = u64;

/// The granularity of tokio's timers.
pub(crate) const TICK: Nanos = 1_000_000;

/// 584 years at most.
pub(crate) fn from_duration(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(Nanos::MAX)
}

pub(crate) fn from_secs(seconds: f64) -> Nanos {
    // A cast of floats saturates, and takes what is no number for zero.
    (seconds * 1e9).round() as Nanos
}

pub(crate) fn to_secs(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}
