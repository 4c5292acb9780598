use std::{error::Error, fmt, time::Duration};

use crate::{Algorithm, Limit};

/// A limit as a client is told of it, in `RateLimit-Policy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    name: String,
    quota: u64,
    window: u64,
}

/// What is left of a limit, as a client is told of it in `RateLimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Units that are there now.
    pub units: u32,
    /// The time within which there will be no more than these, if it is known.
    pub window: Option<Duration>,
}

impl Policy {
    /// A limit under that name.
    ///
    /// A field has no fractions of a second: where the period has some, the window is rounded up to whole seconds and the
    /// quota is what the rate makes of it, rounded down. That of GCRA is its burst, and the window the time in which that
    /// comes back.
    ///
    /// # Errors
    /// Where a field cannot carry the name: it is printable ASCII.
    pub fn try_new(name: &str, limit: Limit) -> Result<Self, InvalidName> {
        if !name.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(InvalidName::Unprintable { name: name.to_owned() });
        }
        let (units, nanos) = match limit.algorithm() {
            Algorithm::Gcra { burst } => (burst, limit.interval().saturating_mul(u64::from(burst))),
            _ => (limit.rate().units(), limit.rate().nanos()),
        };
        let window = nanos.div_ceil(SECOND);
        let quota = u128::from(units) * u128::from(window) * u128::from(SECOND) / u128::from(nanos);
        // At most the units of a second at one in a nanosecond, or a little more than `u32` holds: a field takes both.
        Ok(Self {
            name: name.to_owned(),
            quota: u64::try_from(quota).unwrap_or(LARGEST).min(LARGEST),
            window,
        })
    }

    /// Those of one limiter, which has one name: the first limit goes by that, the others add their period, such as
    /// `search-1h`.
    ///
    /// # Errors
    /// As [`try_new`](Self::try_new).
    pub fn all(name: &str, limits: &[Limit]) -> Result<Vec<Self>, InvalidName> {
        let mut policies: Vec<Self> = Vec::with_capacity(limits.len());
        for (index, limit) in limits.iter().enumerate() {
            let mut unique = name.to_owned();
            if index > 0 {
                unique = format!("{name}-{}", Short(limit.rate().period()));
                if policies.iter().any(|policy| policy.name == unique) {
                    unique = format!("{unique}-{}", index + 1);
                }
            }
            policies.push(Self::try_new(&unique, *limit)?);
        }
        Ok(policies)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// So many units ...
    #[must_use]
    pub const fn quota(&self) -> u64 {
        self.quota
    }

    /// ... in so much time, in whole seconds.
    #[must_use]
    pub const fn window(&self) -> Duration {
        Duration::from_secs(self.window)
    }
}

const SECOND: u64 = 1_000_000_000;
/// Of a structured field.
const LARGEST: u64 = 999_999_999_999_999;

/// `"search";q=100;w=60`
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};q={};w={}", Quoted(&self.name), self.quota, self.window)
    }
}

/// A name as a structured field's string.
pub(super) struct Quoted<'a>(pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for part in self.0.split_inclusive(['"', '\\']) {
            match part.char_indices().next_back() {
                Some((at, last @ ('"' | '\\'))) => write!(f, "{}\\{last}", &part[..at])?,
                _ => f.write_str(part)?,
            }
        }
        f.write_str("\"")
    }
}

/// A period in its largest whole unit: `1h`, `90s`, `250ms`.
struct Short(Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        let units = [
            (86_400_000_000_000, "d"),
            (3_600_000_000_000, "h"),
            (60_000_000_000, "m"),
            (1_000_000_000, "s"),
        ];
        let below = [(1_000_000, "ms"), (1_000, "us"), (1, "ns")];
        for (size, word) in units.into_iter().chain(below) {
            if nanos.is_multiple_of(size) {
                return write!(f, "{}{word}", nanos / size);
            }
        }
        Ok(())
    }
}

impl Remaining {
    /// Whole seconds that make it true. With nothing left they are rounded up, so that no client comes too early; else down,
    /// so that none holds back for seconds where more units come back in less. A part of a second is not said then.
    pub(super) fn seconds(&self) -> Option<u64> {
        let window = self.window?;
        if self.units == 0 {
            return Some(window.as_secs().saturating_add(u64::from(window.subsec_nanos() > 0)).min(LARGEST));
        }
        Some(window.as_secs().min(LARGEST)).filter(|seconds| *seconds > 0)
    }
}

/// A name that a policy cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidName {
    /// A header field carries printable ASCII alone.
    Unprintable {
        /// The name that was given.
        name: String,
    },
    /// Two policies that are said together have this name.
    Twice {
        /// The name that was given.
        name: String,
    },
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unprintable { name } => {
                write!(f, "a policy's name in a header field is printable ASCII, not {name:?}")
            }
            Self::Twice { name } => write!(f, "two policies have the name {name:?}"),
        }
    }
}

impl Error for InvalidName {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Rate;

    fn rate(units: u32, millis: u64) -> Rate {
        Rate::try_new(units, Duration::from_millis(millis)).unwrap()
    }

    fn said(limit: Limit) -> String {
        Policy::try_new("p", limit).unwrap().to_string()
    }

    #[test]
    fn a_window_has_whole_seconds_and_the_quota_keeps_the_rate() {
        assert_eq!(said(rate(100, 60_000).into()), r#""p";q=100;w=60"#);
        assert_eq!(said(rate(1_000, 100).into()), r#""p";q=10000;w=1"#);
        assert_eq!(said(rate(10, 1_500).into()), r#""p";q=13;w=2"#);
        assert_eq!(said(Limit::fixed_window(rate(7, 86_400_000))), r#""p";q=7;w=86400"#);
    }

    #[test]
    fn a_time_is_rounded_so_that_it_is_true() {
        let seconds =
            |units, millis| Remaining { units, window: Some(Duration::from_millis(millis)) }.seconds();
        assert_eq!((seconds(0, 1), seconds(0, 1_000), seconds(0, 1_001)), (Some(1), Some(1), Some(2)));
        assert_eq!((seconds(1, 999), seconds(1, 1_000), seconds(1, 1_999)), (None, Some(1), Some(1)));
        assert_eq!(Remaining { units: 0, window: Some(Duration::MAX) }.seconds(), Some(LARGEST));
        assert_eq!(Remaining { units: 0, window: None }.seconds(), None);
    }

    #[test]
    fn a_burst_is_said_as_what_may_come_at_once() {
        assert_eq!(said(Limit::gcra(rate(60, 60_000), 10).unwrap()), r#""p";q=10;w=10"#);
        assert_eq!(said(Limit::gcra(rate(100, 1_000), 10).unwrap()), r#""p";q=100;w=1"#);
        assert_eq!(said(Limit::gcra(rate(1, 60_000), 1).unwrap()), r#""p";q=1;w=60"#);
    }

    #[test]
    fn several_limits_of_one_limiter_have_names_of_their_own() {
        let limits = [
            rate(10, 1_000).into(),
            rate(9, 3_600_000).into(),
            rate(8, 250).into(),
            Limit::gcra(rate(5, 3_600_000), 2).unwrap(),
        ];
        let policies = Policy::all("search", &limits).unwrap();
        let names: Vec<_> = policies.iter().map(Policy::name).collect();
        assert_eq!(names, ["search", "search-1h", "search-250ms", "search-1h-4"]);
    }

    #[test]
    fn a_name_is_quoted_or_refused() {
        let of = |name| Policy::try_new(name, rate(1, 1_000).into());
        assert_eq!(of(r#"a"b\"#).unwrap().to_string(), r#""a\"b\\";q=1;w=1"#);
        assert_eq!(of("").unwrap().to_string(), r#""";q=1;w=1"#);
        for name in ["a\r\nb", "größe", "\u{7f}"] {
            assert_eq!(of(name), Err(InvalidName::Unprintable { name: name.into() }));
        }
    }

    proptest! {
        #[test]
        fn a_policy_never_says_more_than_the_rate(units in 1..u32::MAX, nanos in 1..10_000_000_000_u64) {
            prop_assume!(nanos >= u64::from(units));
            let rate = Rate::try_new(units, Duration::from_nanos(nanos)).unwrap();
            let policy = Policy::try_new("p", rate.into()).unwrap();
            let window = policy.window().as_nanos();
            prop_assert!(window >= u128::from(nanos));
            prop_assert!(window < u128::from(nanos) + 1_000_000_000);
            // q / w <= units / nanos < (q + 1) / w
            prop_assert!(u128::from(policy.quota()) * u128::from(nanos) <= u128::from(units) * window);
            prop_assert!((u128::from(policy.quota()) + 1) * u128::from(nanos) > u128::from(units) * window);
            prop_assert!(policy.quota() >= u64::from(units));
        }

        #[test]
        fn every_printable_name_is_read_back(name in "[ -~]{0,20}") {
            let field = Policy::try_new(&name, rate(1, 1_000).into()).unwrap().to_string();
            let mut names = Vec::new();
            super::super::fields::members(field.as_bytes(), &mut |member| names.push(member.name.into_owned())).unwrap();
            prop_assert_eq!(names, [name]);
        }
    }
}
