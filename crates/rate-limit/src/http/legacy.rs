//! What servers sent before there was a draft, and what its first drafts had.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};

use super::text::{LONGEST, date, digits, text};

/// What is left, and when there is more.
const PAIRS: [[HeaderName; 2]; 3] = [
    [HeaderName::from_static("x-ratelimit-remaining"), HeaderName::from_static("x-ratelimit-reset")],
    [HeaderName::from_static("x-rate-limit-remaining"), HeaderName::from_static("x-rate-limit-reset")],
    [HeaderName::from_static("ratelimit-remaining"), HeaderName::from_static("ratelimit-reset")],
];

/// What so many seconds are: a time since 1970, or milliseconds since then.
const TIME: u64 = 1_000_000_000;
const MILLISECONDS: u64 = 1_000_000_000_000;

/// Whether there is anything to read.
pub(super) fn is_there(headers: &HeaderMap) -> bool {
    PAIRS.iter().any(|[remaining, _]| headers.contains_key(remaining))
}

/// The first pair that can be understood.
pub(super) fn remaining(headers: &HeaderMap) -> Option<(u64, Duration)> {
    PAIRS.iter().find_map(|[remaining, reset]| {
        Some((digits(text(headers, remaining)?)?, until(text(headers, reset)?, headers)?))
    })
}

/// Seconds from now, or a time, which is counted from the answer's own `Date`.
fn until(reset: &str, headers: &HeaderMap) -> Option<Duration> {
    let (whole, fraction) = reset.split_once('.').unwrap_or((reset, "0"));
    let more = digits(fraction)? > 0;
    let seconds = match digits(whole)? {
        seconds @ ..TIME => return Some(Duration::from_secs(seconds + u64::from(more))),
        seconds @ ..MILLISECONDS => seconds + u64::from(more),
        milliseconds => milliseconds.div_ceil(1_000),
    };
    let now = date(headers)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Duration::from_secs(seconds).saturating_sub(now).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn read(fields: &[(&'static str, &str)]) -> Option<(u64, u64)> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(is_there(&headers), fields.iter().any(|(name, _)| name.ends_with("remaining")));
        remaining(&headers).map(|(units, time)| (units, time.as_secs()))
    }

    #[test]
    fn a_reset_is_seconds_or_a_time() {
        let date = ("date", "Sun, 09 Sep 2001 01:46:50 GMT");
        let of = |reset| {
            read(&[
                ("x-ratelimit-limit", "60"),
                ("x-ratelimit-remaining", "5"),
                ("x-ratelimit-reset", reset),
                date,
            ])
        };
        assert_eq!(of("30"), Some((5, 30)));
        assert_eq!(of("1.25"), Some((5, 2)));
        assert_eq!(of("2.000"), Some((5, 2)));
        assert_eq!(of("999999999"), Some((5, 999_999_999)));
        assert_eq!(of("1000000070"), Some((5, 60)), "seconds since 1970");
        assert_eq!(of("1000000070.2"), Some((5, 61)));
        assert_eq!(of("1000000070000"), Some((5, 60)), "milliseconds since 1970");
        assert_eq!(of("1000000000"), Some((5, 0)), "the past is now");
        assert_eq!(of("99999999999999999999999"), Some((5, LONGEST.as_secs())));
        for nonsense in ["", "-1", "soon", "1.", ".5", "1e3", "6m0s", "1,2"] {
            assert_eq!(of(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn a_time_needs_the_answers_own() {
        assert_eq!(read(&[("x-ratelimit-remaining", "5"), ("x-ratelimit-reset", "1700000000")]), None);
    }

    #[test]
    fn the_first_pair_that_can_be_understood_counts() {
        assert_eq!(read(&[("x-rate-limit-remaining", "0"), ("x-rate-limit-reset", "7")]), Some((0, 7)));
        assert_eq!(read(&[("ratelimit-remaining", "1"), ("ratelimit-reset", "8")]), Some((1, 8)));
        assert_eq!(
            read(&[
                ("x-ratelimit-remaining", "many"),
                ("x-ratelimit-reset", "1"),
                ("ratelimit-remaining", "1"),
                ("ratelimit-reset", "8")
            ]),
            Some((1, 8))
        );
        assert_eq!(read(&[("x-ratelimit-remaining", "0")]), None, "nobody knows until when");
        assert_eq!(read(&[("x-ratelimit-reset", "7")]), None);
        assert_eq!(read(&[("x-ratelimit-remaining", "-1"), ("x-ratelimit-reset", "7")]), None);
    }

    proptest! {
        #[test]
        fn nothing_a_server_sends_panics(units in "[ -~]{0,30}", reset in "[0-9.]{0,30}|[ -~]{0,30}", date in any::<bool>()) {
            let mut fields = vec![("x-ratelimit-remaining", &*units), ("x-ratelimit-reset", &*reset)];
            if date {
                fields.push(("date", "Sun, 06 Nov 1994 08:49:37 GMT"));
            }
            let read = read(&fields);
            prop_assert!(read.is_none_or(|(_, seconds)| seconds <= LONGEST.as_secs()));
        }
    }
}
