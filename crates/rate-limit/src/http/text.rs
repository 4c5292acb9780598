//! What the fields are made of.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};
use httpdate::HttpDate;

/// Longer than anybody waits, and short enough to be added to any clock's reading.
pub(super) const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// The answer's own time.
pub(super) fn date(headers: &HeaderMap) -> Option<SystemTime> {
    text(headers, &header::DATE)?.parse::<HttpDate>().ok().map(SystemTime::from)
}

pub(super) fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    Some(headers.get(name)?.to_str().ok()?.trim())
}

/// Digits alone: `u64::from_str` would take a sign, too. What is too much is the most there is.
pub(super) fn digits(value: &str) -> Option<u64> {
    (!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| value.parse().unwrap_or(u64::MAX))
}
