use std::time::Duration;

use buttress_rate_limit::http::Restrictions;
use http::{HeaderMap, StatusCode, header};

use crate::{cost::bounded, head::Head};

/// The longest that anybody is asked to wait: 136 years.
pub(crate) const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// `Retry-After`: the client's reading and the rate limit's are the same, that of a naive model, and bounded.
///
/// The input: the fields of an answer, a line each.
///
/// # Panics
/// Where that does not hold.
pub fn retry_after(data: &[u8]) {
    let [answer] = Head::read(data);
    let wait = bounded(data, 1_024, 0, || buttress_http::retry_after(&answer.fields));
    assert_eq!(wait, naive(&answer.fields), "{answer:?}");
    assert!(wait.is_none_or(|wait| wait <= LONGEST));

    let mut alone = HeaderMap::new();
    for name in [header::RETRY_AFTER, header::DATE] {
        if let Some(value) = answer.fields.get(&name) {
            alone.insert(name, value.clone());
        }
    }
    for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
        let mut asked = bounded(data, 1_024, 0, || Restrictions::of(status, &alone));
        let first = asked.next().map(|asked| (asked.units, asked.time));
        // None is asked to wait for no time.
        assert_eq!(first, wait.filter(|wait| !wait.is_zero()).map(|wait| (0, wait)), "{answer:?}");
        assert_eq!(asked.next(), None);
    }
    assert_eq!(Restrictions::of(StatusCode::OK, &alone).next(), None, "elsewhere it is not about limits");
}

/// By 128 bits and httpdate alone.
fn naive(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| Some(headers.get(name)?.to_str().ok()?.trim());
    let value: &str = text(header::RETRY_AFTER)?;
    let is_number = !value.is_empty() && value.chars().all(|char| char.is_ascii_digit());
    if is_number {
        let seconds = value.trim_start_matches('0').parse::<u128>();
        let is_zero = value.trim_start_matches('0').is_empty();
        let seconds = if is_zero { 0 } else { seconds.unwrap_or(u128::MAX) };
        return Some(Duration::from_secs(u64::try_from(seconds.min(LONGEST.as_secs().into())).ok()?));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let now = httpdate::parse_http_date(text(header::DATE)?).ok()?;
    Some(until.duration_since(now).unwrap_or_default().min(LONGEST))
}
