use std::time::Duration;

use buttress_core::retry_after;
use http::{HeaderMap, StatusCode, header};

use super::{
    fields::{self, MOST_MEMBERS, Malformed, RATELIMIT, RATELIMIT_POLICY},
    legacy,
    text::{LONGEST, digits, text},
};

/// What a server's answer asks of its client: at most so many units within that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restriction {
    /// Zero asks for none at all.
    pub units: u32,
    /// At most 136 years, and never zero.
    pub time: Duration,
}

/// All that one answer asks, at the same time: an iterator. It allocates nothing.
#[derive(Debug, Clone, Default)]
pub struct Restrictions {
    list: [Option<Restriction>; MOST_MEMBERS],
    len: usize,
    next: usize,
}

impl Restrictions {
    /// Reads the head of an answer. The first of these counts:
    ///
    /// 1. `Retry-After` of a 429 or 503: none until then.
    /// 2. `RateLimit` (draft-ietf-httpapi-ratelimit-headers, 8 to 11; or 7): one for each policy that says what is left and
    ///    for how long. A policy that `RateLimit-Policy` counts in something else than requests matters only where nothing
    ///    is left of it.
    /// 3. `X-RateLimit-Remaining` and `-Reset`, or the same with `X-Rate-Limit-` or `RateLimit-`: seconds, or a time since
    ///    1970 in seconds or milliseconds.
    ///
    /// A time or date is counted from the answer's own `Date`, and is not understood without one. The last two are not
    /// believed of an answer from a cache (`Age`), which tells of the past. What is malformed anywhere, or has more than
    /// 16 policies or 4 KiB a line, is not believed at all; numbers too large are cut.
    #[must_use]
    #[inline]
    pub fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        if is_throttled(status) || headers.contains_key(RATELIMIT) || legacy::is_there(headers) {
            return Self::read(status, headers);
        }
        Self::default()
    }

    #[cold]
    fn read(status: StatusCode, headers: &HeaderMap) -> Self {
        let mut restrictions = Self::default();
        if is_throttled(status)
            && let Some(time) = retry_after(headers)
        {
            restrictions.push(0, time);
        } else if text(headers, &header::AGE).and_then(digits).is_none_or(|age| age == 0) {
            if headers.contains_key(RATELIMIT) {
                restrictions = Self::of_field(headers)
                    .or_else(|Malformed| Self::of_seventh_draft(headers))
                    .unwrap_or_default();
            } else if let Some((units, time)) = legacy::remaining(headers) {
                restrictions.push(units, time);
            }
        }
        restrictions
    }

    fn of_field(headers: &HeaderMap) -> Result<Self, Malformed> {
        let mut restrictions = Self::default();
        let mut seen = 0;
        for line in headers.get_all(RATELIMIT) {
            fields::members(line.as_bytes(), &mut |member| {
                seen += 1;
                if let (Some(units), Some(seconds)) = (member.remaining, member.window)
                    && (units == 0 || counts_requests(headers, &member.name))
                {
                    restrictions.push(units, Duration::from_secs(seconds));
                }
            })?;
            if seen > MOST_MEMBERS {
                return Err(Malformed);
            }
        }
        Ok(restrictions)
    }

    fn of_seventh_draft(headers: &HeaderMap) -> Result<Self, Malformed> {
        let (units, seconds) = fields::seventh_draft(headers.get(RATELIMIT).ok_or(Malformed)?.as_bytes())?;
        let mut restrictions = Self::default();
        restrictions.push(units, Duration::from_secs(seconds));
        Ok(restrictions)
    }

    fn push(&mut self, units: u64, time: Duration) {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        if let Some(place) = self.list.get_mut(self.len)
            && !time.is_zero()
        {
            *place = Some(Restriction { units, time: time.min(LONGEST) });
            self.len += 1;
        }
    }
}

impl Iterator for Restrictions {
    type Item = Restriction;

    #[inline]
    fn next(&mut self) -> Option<Restriction> {
        let next = *self.list.get(self.next)?;
        self.next += usize::from(next.is_some());
        next
    }
}

const fn is_throttled(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Whether that policy counts requests: every one does that does not say otherwise.
fn counts_requests(headers: &HeaderMap, name: &str) -> bool {
    let mut otherwise = false;
    headers.get_all(RATELIMIT_POLICY).iter().take(MOST_MEMBERS).all(|line| {
        let read = fields::members(line.as_bytes(), &mut |policy| {
            otherwise |= policy.name == name && !policy.in_requests;
        });
        read.is_ok()
    });
    !otherwise
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    fn of(status: u16, fields: &[(&'static str, &str)]) -> Vec<(u32, u64)> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let all = Restrictions::of(StatusCode::from_u16(status).unwrap(), &headers);
        all.map(|Restriction { units, time }| (units, time.as_secs())).collect()
    }

    #[test]
    fn retry_after_closes_and_counts_before_the_field() {
        let both = [("retry-after", "7"), ("ratelimit", r#""a";r=3;t=60"#)];
        assert_eq!(of(429, &both), [(0, 7)]);
        assert_eq!(of(503, &both), [(0, 7)]);
        assert_eq!(of(301, &both), [(3, 60)], "elsewhere it is not about limits");
        assert_eq!(of(429, &[("retry-after", "0")]), []);
        assert_eq!(of(429, &[]), [], "nobody knows until when");
    }

    #[test]
    fn every_policy_of_the_field_counts() {
        let lines = [("ratelimit", r#""a";r=3;t=1, "b";r=0;t=60"#), ("ratelimit", r#""c";r=500;t=1800"#)];
        assert_eq!(of(200, &lines), [(3, 1), (0, 60), (500, 1800)]);
        assert_eq!(of(429, &[("ratelimit", r#""a";r=0;t=9"#)]), [(0, 9)]);
        assert_eq!(of(200, &[("ratelimit", r#""a";r=3, "b";t=1, "c";r=1;t=0"#)]), [], "no time, no count");
        assert_eq!(of(200, &[("ratelimit", "limit=9, remaining=4, reset=30")]), [(4, 30)]);
    }

    #[test]
    fn one_malformed_line_voids_the_field() {
        assert_eq!(of(200, &[("ratelimit", r#""a";r=0;t=9"#), ("ratelimit", "broken;")]), []);
        assert_eq!(of(200, &[("ratelimit", r#""a";r=0;t=1"#); MOST_MEMBERS]).len(), MOST_MEMBERS);
        assert_eq!(of(200, &[("ratelimit", r#""a";r=0;t=1"#); MOST_MEMBERS + 1]), []);
        let malformed = [("ratelimit", ";"), ("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "1")];
        assert_eq!(of(200, &malformed), [], "whoever sends the one means it, not the other");
    }

    #[test]
    fn bytes_are_not_requests() {
        let policies = r#""b";q=65535;qu="content-bytes", "a";q=5;qu="requests""#;
        let with = |field| of(200, &[("ratelimit", field), ("ratelimit-policy", policies)]);
        assert_eq!(with(r#""b";r=100;t=1, "a";r=4;t=2"#), [(4, 2)]);
        assert_eq!(with(r#""b";r=0;t=1"#), [(0, 1)], "nothing is nothing in any unit");
    }

    #[test]
    fn a_cached_answer_tells_of_the_past() {
        let field = ("ratelimit", r#""a";r=0;t=9"#);
        assert_eq!(of(200, &[field, ("age", "3")]), []);
        assert_eq!(of(200, &[field, ("age", "0")]), [(0, 9)]);
        let legacy = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "9"), ("age", "1")];
        assert_eq!(of(200, &legacy), []);
        assert_eq!(of(200, &legacy[..2]), [(0, 9)]);
    }

    #[test]
    fn numbers_too_large_are_cut() {
        let large = r#""a";r=999999999999999;t=999999999999999"#;
        assert_eq!(of(200, &[("ratelimit", large)]), [(u32::MAX, LONGEST.as_secs())]);
    }

    proptest! {
        #[test]
        fn nothing_a_server_sends_panics(
            status in 100..600_u16,
            lines in proptest::collection::vec(
                ("ratelimit(-policy)?|retry-after|age|date|x-ratelimit-(remaining|reset)",
                 proptest::collection::vec(prop_oneof![32..=126_u8, 128..=255_u8], 0..80)),
                0..30,
            ),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in lines {
                headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::from_bytes(&value).unwrap());
            }
            let all = Restrictions::of(StatusCode::from_u16(status).unwrap(), &headers);
            for Restriction { time, .. } in all {
                prop_assert!(!time.is_zero() && time <= LONGEST);
            }
        }

        #[test]
        fn what_a_field_says_is_what_is_read(said in proptest::collection::vec((0..9_u32, 1..9_u64), 0..=MOST_MEMBERS)) {
            let field: Vec<_> = said.iter().map(|(units, time)| format!("\"p\";r={units};t={time}")).collect();
            prop_assert_eq!(of(200, &[("ratelimit", &field.join(", "))]), said);
        }
    }
}
