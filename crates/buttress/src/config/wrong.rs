//! What a value is refused for, and the bounds that no layer or client has by itself.

use std::{borrow::Cow, fmt, time::Duration};

/// A value that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Below the part that it is of, as in `circuit_breaker.failures`.
    pub(crate) key: Cow<'static, str>,
    /// As it is written in the file; empty where it is not to be seen.
    pub(crate) value: String,
    /// What to do.
    pub(crate) fix: Cow<'static, str>,
}

impl Wrong {
    pub(crate) fn new(
        key: impl Into<Cow<'static, str>>,
        value: impl fmt::Display,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { key: key.into(), value: value.to_string(), fix: fix.into() }
    }

    /// The value is a secret, or is not there.
    pub(crate) fn hidden(key: impl Into<Cow<'static, str>>, fix: impl Into<Cow<'static, str>>) -> Self {
        Self { key: key.into(), value: String::new(), fix: fix.into() }
    }

    pub(crate) fn duration(
        key: impl Into<Cow<'static, str>>,
        value: Duration,
        fix: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(key, written(value), fix)
    }

    /// The same, seen from further up.
    pub(crate) fn below(self, table: &str) -> Self {
        Self { key: format!("{table}.{}", self.key).into(), ..self }
    }
}

/// As it is written in the file.
pub(crate) fn written(duration: Duration) -> String {
    format!("\"{}\"", humantime::format_duration(duration))
}

/// Times are added to the clock, which ends. What is longer is a slip of the pen.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 31_557_600);

/// The least that a timer can tell.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);

/// A time that may be zero.
pub(crate) fn at_most_30_years(key: &'static str, value: Duration) -> Result<Duration, Wrong> {
    if value > LONGEST {
        return Err(Wrong::duration(key, value, "write at most \"30y\""));
    }
    Ok(value)
}

/// A time in which something must be able to happen.
pub(crate) fn some_time(key: &'static str, value: Duration) -> Result<Duration, Wrong> {
    if value < SHORTEST {
        return Err(Wrong::duration(key, value, "nothing is done in that time, write at least \"1ms\""));
    }
    at_most_30_years(key, value)
}

/// A number within its bounds.
pub(crate) fn from_to<N>(key: &'static str, value: N, least: N, most: N) -> Result<N, Wrong>
where
    N: PartialOrd + fmt::Display,
{
    if value < least || value > most {
        return Err(Wrong::new(key, &value, format!("write a number from {least} to {most}")));
    }
    Ok(value)
}
