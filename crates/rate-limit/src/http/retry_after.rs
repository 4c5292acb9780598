use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, header};
use httpdate::HttpDate;

/// Longer than anybody waits, and short enough to be added to any clock's reading.
pub(super) const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// How long `Retry-After` asks to wait (RFC 9110, 10.2.3): seconds, or a date, which is counted from the answer's own
/// `Date`, so that no two clocks are compared.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Some(seconds) = digits(value) {
        return Some(Duration::from_secs(seconds).min(LONGEST));
    }
    let until: HttpDate = value.parse().ok()?;
    Some(SystemTime::from(until).duration_since(date(headers)?).unwrap_or_default().min(LONGEST))
}

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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn seconds(after: &str, date: Option<&str>) -> Option<u64> {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, HeaderValue::from_str(after).unwrap());
        if let Some(date) = date {
            headers.insert(header::DATE, HeaderValue::from_str(date).unwrap());
        }
        retry_after(&headers).map(|after| after.as_secs())
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        assert_eq!(seconds("120", None), Some(120));
        assert_eq!(seconds(" 0 ", None), Some(0));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:50:07 GMT", Some(DATE)), Some(30));
        assert_eq!(seconds("Sunday, 06-Nov-94 08:50:07 GMT", Some(DATE)), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:00:00 GMT", Some(DATE)), Some(0), "the past is now");
        assert_eq!(seconds("Fri, 31 Dec 9999 23:59:59 GMT", Some(DATE)), Some(LONGEST.as_secs()));
        assert_eq!(seconds("99999999999999999999999999", None), Some(LONGEST.as_secs()));
    }

    #[test]
    fn what_cannot_be_known_is_none() {
        assert_eq!(retry_after(&HeaderMap::new()), None);
        assert_eq!(seconds(DATE, None), None, "a date without the server's own");
        assert_eq!(seconds(DATE, Some("yesterday")), None);
        for nonsense in ["", "soon", "-1", "+1", "1.5", "0x10", "1 s"] {
            assert_eq!(seconds(nonsense, Some(DATE)), None, "{nonsense}");
        }
    }
}
