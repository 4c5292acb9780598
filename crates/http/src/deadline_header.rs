use std::time::Duration;

use buttress_core::Deadline;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header in which Envoy tells a server how many milliseconds it has: for
/// [`deadline_header`](crate::Builder::deadline_header) and [`deadline_of`].
pub const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");

/// Sends on what is left of the current deadline, if there is one and the request does not say it by itself.
pub(crate) fn send_on(headers: &mut HeaderMap, name: &HeaderName) {
    let Some(deadline) = Deadline::current().filter(|_| !headers.contains_key(name)) else { return };
    // Less than one is not none: the call is made.
    let millis = u64::try_from(deadline.remaining().as_millis()).unwrap_or(u64::MAX).max(1);
    headers.insert(name.clone(), HeaderValue::from(millis));
}

/// The deadline that a request's header tells, counted from now: for a server that keeps to its clients' deadlines.
///
/// `None` where there is no such header, and where it is anything but a number of milliseconds: digits alone. Of several
/// the first counts. A time too far to be named is taken as 30 years, so nothing a client sends can do more than end its
/// own request early.
///
/// ```
/// use std::time::Duration;
///
/// use buttress_http::{EXPECTED_TIMEOUT, deadline_of};
/// use http::Request;
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let request = Request::get("/items/7").header(EXPECTED_TIMEOUT, "250").body(()).unwrap();
/// let deadline = deadline_of(request.headers(), &EXPECTED_TIMEOUT).unwrap();
/// assert!(deadline.remaining() <= Duration::from_millis(250));
/// # });
/// ```
#[must_use]
pub fn deadline_of(headers: &HeaderMap, name: &HeaderName) -> Option<Deadline> {
    let value = headers.get(name)?.as_bytes().trim_ascii();
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::str::from_utf8(value).ok()?;
    // Digits that do not fit are many.
    Some(Deadline::after(digits.parse().map_or(Duration::MAX, Duration::from_millis)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn headers(value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(EXPECTED_TIMEOUT, HeaderValue::from_bytes(value).unwrap())])
    }

    fn left(value: &[u8]) -> Option<Duration> {
        deadline_of(&headers(value), &EXPECTED_TIMEOUT).map(Deadline::remaining)
    }

    #[tokio::test(start_paused = true)]
    async fn a_number_of_milliseconds_is_a_deadline_and_nothing_else_is() {
        assert_eq!(left(b"250"), Some(Duration::from_millis(250)));
        assert_eq!(left(b" 0 "), Some(Duration::ZERO), "it has passed already");
        assert_eq!(deadline_of(&HeaderMap::new(), &EXPECTED_TIMEOUT), None);
        for nonsense in ["", "-1", "+1", "1.5", "1e3", "0x10", "10 20", "10,20", "soon"] {
            assert_eq!(left(nonsense.as_bytes()), None, "{nonsense}");
        }
        assert_eq!(left(b"\xff\xfe"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_clock_can_hold_is_cut() {
        let century = Duration::from_secs(29 * 365 * 86_400);
        for endless in ["18446744073709551615", "18446744073709551616", &"9".repeat(8000)] {
            assert!(left(endless.as_bytes()).unwrap() > century);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_sent_is_what_is_left_and_never_zero() {
        let sent = async |left: Duration, mut headers: HeaderMap| {
            Deadline::at(Instant::now() + left)
                .scope(async {
                    send_on(&mut headers, &EXPECTED_TIMEOUT);
                    headers[EXPECTED_TIMEOUT].to_str().unwrap().to_owned()
                })
                .await
        };
        assert_eq!(sent(Duration::from_micros(1_999), HeaderMap::new()).await, "1");
        assert_eq!(sent(Duration::from_micros(1), HeaderMap::new()).await, "1");
        assert_eq!(sent(Duration::from_secs(2), HeaderMap::new()).await, "2000");
        assert_eq!(sent(Duration::from_secs(2), headers(b"7")).await, "7", "it is not overwritten");

        let mut headers = HeaderMap::new();
        send_on(&mut headers, &EXPECTED_TIMEOUT);
        assert!(headers.is_empty(), "nobody has set a deadline");
    }

    proptest! {
        #[test]
        fn nothing_a_client_sends_panics(value in "[ -~]{0,40}") {
            let _deadline = deadline_of(&headers(value.as_bytes()), &EXPECTED_TIMEOUT);
        }

        #[test]
        fn milliseconds_mean_themselves(millis in 0..u64::from(u32::MAX)) {
            let before = Instant::now();
            let deadline = deadline_of(&headers(millis.to_string().as_bytes()), &EXPECTED_TIMEOUT).unwrap();
            let after = deadline.instant() - Duration::from_millis(millis);
            prop_assert!(after >= before && after <= Instant::now());
        }
    }
}
