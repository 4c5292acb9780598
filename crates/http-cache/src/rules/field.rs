//! What several fields share: lists, numbers of seconds, dates.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// What a number of seconds that does not fit counts as (RFC 9111, section 1.2.2).
pub(super) const MOST_SECONDS: u64 = 1 << 31;

pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// The elements of a list whose elements hold no quotes, over all lines; without the empty ones.
pub(super) fn elements(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(name)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(trim)
        .filter(|element| !element.is_empty())
}

/// Digits alone; [`MOST_SECONDS`] where there are too many.
pub(super) fn seconds(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() || !bytes.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(bytes.iter().fold(0, add).min(MOST_SECONDS))
}

/// In any of the three forms of RFC 9110, section 5.6.7, in whatever case (RFC 9111, section 4.2).
fn date(value: &HeaderValue) -> Option<SystemTime> {
    let text = value.to_str().ok()?.trim();
    // Longer than any of them.
    if text.len() > 40 {
        return None;
    }
    let mut is_first = true;
    let mut usual = |letter: char| {
        let is_start = std::mem::replace(&mut is_first, !letter.is_ascii_alphabetic());
        if is_start { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() }
    };
    let text: String = text.chars().map(&mut usual).collect();
    httpdate::parse_http_date(&text.replace("Gmt", "GMT")).ok()
}

/// None where the year has not four digits, or is before 1970.
pub(super) fn date_value(time: SystemTime) -> Option<HeaderValue> {
    const YEAR_10000: u64 = 253_402_300_800;
    let since = time.duration_since(UNIX_EPOCH).ok()?;
    (since.as_secs() < YEAR_10000)
        .then(|| HeaderValue::from_str(&httpdate::fmt_http_date(time)).ok())
        .flatten()
}

/// How long the response has been on its way already (RFC 9111, section 5.1): the first value counts; what is no number of
/// seconds is ignored.
pub(super) fn age(headers: &HeaderMap) -> Duration {
    let first = headers.get(header::AGE).and_then(|line| line.as_bytes().split(|byte| *byte == b',').next());
    Duration::from_secs(first.and_then(|first| seconds(trim(first))).unwrap_or(0))
}

/// The date in a field that a message has once. None where it is none, or where there are several that differ.
pub(super) fn date_of(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    if lines.any(|line| line != first) {
        return None;
    }
    date(first)
}

/// What is neither stored nor sent on (RFC 9111, section 3.1), whatever `Connection` says.
const OF_ONE_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What the rules themselves read. `Connection` must not name these (RFC 9110, section 7.6.1), and is not obeyed if it does:
/// without them, a response would be kept that is not to be kept.
const NEEDED: [HeaderName; 7] = [
    header::CACHE_CONTROL,
    header::VARY,
    header::DATE,
    header::EXPIRES,
    header::AGE,
    header::ETAG,
    header::LAST_MODIFIED,
];

/// Without the fields that are about one connection alone.
pub(super) fn without_hop(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    for named in elements(headers, header::CONNECTION) {
        if let Ok(name) = HeaderName::from_bytes(named)
            && !NEEDED.contains(&name)
        {
            kept.remove(name);
        }
    }
    for name in OF_ONE_HOP {
        kept.remove(name);
    }
    kept
}

/// The lines of a field as one value (RFC 9110, section 5.3). None: there is none.
pub(super) fn joined<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.as_bytes();
    let Some(second) = lines.next() else {
        return Some(Cow::Borrowed(first));
    };
    let mut all = first.to_vec();
    for line in std::iter::once(second).chain(lines) {
        all.extend_from_slice(b", ");
        all.extend_from_slice(line.as_bytes());
    }
    Some(Cow::Owned(all))
}
