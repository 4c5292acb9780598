use std::{ops::RangeInclusive, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request};

use super::{
    Stored,
    entity_tag::EntityTag,
    field::{date_of, elements, trim},
};

/// Which part of a stored response is asked for (RFC 9110, section 14).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slice {
    /// All of it: the answer is the stored one.
    Whole,
    /// These bytes, counted from 0: the answer is `206`.
    Part(RangeInclusive<u64>),
    /// None that it has: the answer is `416`.
    Unsatisfiable,
}

/// Whether more than one part is asked for.
pub(super) fn is_several(headers: &HeaderMap) -> bool {
    elements(headers, header::RANGE).nth(1).is_some()
}

impl Slice {
    /// The part of a stored `200` with a body of `length` bytes that a `GET` asks for.
    ///
    /// A server may ignore a `Range`, and this one does where it is not well-formed, in another unit than bytes, for several
    /// ranges, or where `If-Range` is about another representation: a weak entity tag never is about this one, a date only
    /// if it is exactly the stored `Last-Modified`, and that is a second before `Date` at least (RFC 9110, sections 8.8.2.2
    /// and 13.1.5).
    #[must_use]
    pub fn of(request: &request::Parts, stored: &Stored, length: u64) -> Self {
        if request.method != Method::GET || stored.status() != StatusCode::OK {
            return Self::Whole;
        }
        let mut lines = request.headers.get_all(header::RANGE).iter();
        let (Some(range), None) = (lines.next(), lines.next()) else {
            return Self::Whole;
        };
        match parse(range.as_bytes(), length) {
            Some(slice) if is_in_range(&request.headers, stored) => slice,
            _ => Self::Whole,
        }
    }

    /// The `Content-Range` that goes with it; a whole response has none.
    #[must_use]
    pub fn content_range(&self, length: u64) -> Option<HeaderValue> {
        let text = match self {
            Self::Whole => return None,
            Self::Part(part) => format!("bytes {}-{}/{length}", part.start(), part.end()),
            Self::Unsatisfiable => format!("bytes */{length}"),
        };
        HeaderValue::try_from(text).ok()
    }
}

/// RFC 9110, section 14.1.2. None: malformed, or of another unit.
fn parse(range: &[u8], length: u64) -> Option<Slice> {
    let (unit, range) = split(trim(range), b'=')?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let (first, last) = split(trim(range), b'-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(match (suffix, length) {
            (0, _) => Slice::Unsatisfiable,
            // Satisfiable, and there is no way to say which bytes these are.
            (_, 0) => Slice::Whole,
            _ => Slice::Part(length.saturating_sub(suffix)..=length - 1),
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(if first >= length { Slice::Unsatisfiable } else { Slice::Part(first..=last.min(length - 1)) })
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The largest number there is, where it does not fit.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(digits.iter().fold(0, add))
}

fn is_in_range(request: &HeaderMap, stored: &Stored) -> bool {
    let mut lines = request.get_all(header::IF_RANGE).iter();
    let Some(condition) = lines.next() else {
        return true;
    };
    if lines.next().is_some() {
        return false;
    }
    if let Some(tag) = EntityTag::parse(condition.as_bytes()) {
        return stored.tag().is_some_and(|own| own.matches_strongly(tag));
    }
    let asked = date_of(request, header::IF_RANGE);
    asked.is_some()
        && asked == stored.last_modified()
        && asked
            .and_then(|asked| stored.0.date.duration_since(asked).ok())
            .is_some_and(|since| since >= SECOND)
}

const SECOND: Duration = Duration::from_secs(1);
