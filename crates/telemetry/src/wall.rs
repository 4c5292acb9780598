use std::time::{SystemTime, UNIX_EPOCH};

/// What a wall clock shows, for exports, logs and people. Nothing is decided by it.
#[expect(clippy::disallowed_methods, reason = "who reads it elsewhere knows no other clock")]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

/// In milliseconds of Unix time.
pub(crate) fn unix_millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
