use std::time::Duration;

use ::http::{HeaderMap, HeaderName, header};
use httpdate::HttpDate;

/// Longer than anybody waits, and short enough to be added to any clock's reading.
const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// How long an answer's `Retry-After` asks to wait (RFC 9110, 10.2.3): seconds, or a date.
///
/// A date is counted from the answer's own `Date`, so neither this machine's clock nor a difference between the two
/// clocks matters; one in the past is zero. `None` where there is no such header, where it is neither seconds nor a
/// date, or a date in an answer without a `Date`. At most 136 years.
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(seconds) = seconds(value) {
        return Some(seconds.min(LONGEST));
    }
    let until: HttpDate = value.parse().ok()?;
    let now = date(headers, &header::DATE)?;
    let (until, now) = (std::time::SystemTime::from(until), std::time::SystemTime::from(now));
    Some(until.duration_since(now).unwrap_or_default().min(LONGEST))
}

/// Digits alone: `u64::from_str` would take a sign, too.
fn seconds(value: &str) -> Option<Duration> {
    (!value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| value.parse().map_or(LONGEST, Duration::from_secs))
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<HttpDate> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use ::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(retry_after: &str, date: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_str(retry_after).unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, HeaderValue::from_str(date).unwrap());
        }
        headers
    }

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    #[test]
    fn seconds_and_all_three_forms_of_a_date_are_understood() {
        let after = |value, date| retry_after(&headers(value, date)).map(|after| after.as_secs());
        assert_eq!(after("120", None), Some(120));
        assert_eq!(after(" 0 ", None), Some(0));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:07 GMT", Some(DATE)), Some(30));
        assert_eq!(after("Sunday, 06-Nov-94 08:50:07 GMT", Some(DATE)), Some(30));
        assert_eq!(after("Sun Nov  6 08:50:07 1994", Some(DATE)), Some(30));
        assert_eq!(after("Sun, 06 Nov 1994 08:00:00 GMT", Some(DATE)), Some(0), "the past is now");
    }

    #[test]
    fn what_cannot_be_known_is_none() {
        assert_eq!(retry_after(&HeaderMap::new()), None);
        assert_eq!(retry_after(&headers(DATE, None)), None, "a date without the server's own");
        assert_eq!(retry_after(&headers(DATE, Some("yesterday"))), None);
        for nonsense in ["", "soon", "-1", "+1", "1.5", "0x10", "1 s"] {
            assert_eq!(retry_after(&headers(nonsense, Some(DATE))), None, "{nonsense}");
        }
    }

    #[test]
    fn what_no_clock_can_hold_is_cut() {
        for endless in ["18446744073709551615", "99999999999999999999999999"] {
            assert_eq!(retry_after(&headers(endless, None)), Some(LONGEST));
        }
        let far = retry_after(&headers("Fri, 31 Dec 9999 23:59:59 GMT", Some(DATE))).unwrap();
        assert_eq!(far, LONGEST);
        let _holds = std::hint::black_box(tokio::time::Instant::now() + far);
    }

    proptest! {
        #[test]
        fn a_date_means_its_distance_from_the_servers_own(now in 0..4_000_000_000_u64, after in 0..200_000_000_u64) {
            let at = |seconds| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            let later = retry_after(&headers(&at(now + after), Some(&at(now))));
            prop_assert_eq!(later, Some(Duration::from_secs(after)));
            let earlier = retry_after(&headers(&at(now), Some(&at(now + after))));
            prop_assert_eq!(earlier, Some(Duration::ZERO));
        }

        #[test]
        fn seconds_mean_themselves(seconds in 0..=u64::from(u32::MAX)) {
            prop_assert_eq!(retry_after(&headers(&seconds.to_string(), None)), Some(Duration::from_secs(seconds)));
        }

        #[test]
        fn nothing_a_server_sends_panics(value in "[ -~]{0,40}", date in "[ -~]{0,40}") {
            let after = retry_after(&headers(&value, Some(&date)));
            prop_assert!(after.is_none_or(|after| after <= LONGEST));
        }
    }
}
