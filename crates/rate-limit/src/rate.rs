use std::{error::Error, fmt, time::Duration};

/// So many units in so much time. A call is one unit, where nobody says otherwise.
///
/// ```
/// use std::time::Duration;
/// use buttress_rate_limit::Rate;
///
/// const SEARCHES: Rate = Rate::per_second(100);
/// let bursts = Rate::try_new(1000, Duration::from_millis(100))?;
/// # Ok::<_, buttress_rate_limit::InvalidRate>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    units: u32,
    period: Duration,
}

impl Rate {
    /// The longest period.
    pub const MAX_PERIOD: Duration = Duration::from_secs(366 * 86_400);

    /// So many in a second.
    ///
    /// # Panics
    /// Where [`try_new`](Self::try_new) has an error: if that is zero, or more than a billion. In a `const`, the program
    /// does not compile then.
    #[must_use]
    pub const fn per_second(units: u32) -> Self {
        Self::in_seconds(units, 1)
    }

    /// So many in a minute.
    ///
    /// # Panics
    /// If that is zero.
    #[must_use]
    pub const fn per_minute(units: u32) -> Self {
        Self::in_seconds(units, 60)
    }

    /// So many in an hour.
    ///
    /// # Panics
    /// If that is zero.
    #[must_use]
    pub const fn per_hour(units: u32) -> Self {
        Self::in_seconds(units, 3_600)
    }

    const fn in_seconds(units: u32, seconds: u64) -> Self {
        match Self::try_new(units, Duration::from_secs(seconds)) {
            Ok(rate) => rate,
            Err(InvalidRate::NoUnits) => panic!("a rate of zero would refuse everything"),
            Err(_) => panic!("a rate is at most one unit in a nanosecond"),
        }
    }

    /// So many in that period.
    ///
    /// # Errors
    /// If either is zero, if the period is above [`MAX_PERIOD`](Self::MAX_PERIOD), or if it is more than one unit in a
    /// nanosecond.
    pub const fn try_new(units: u32, period: Duration) -> Result<Self, InvalidRate> {
        if units == 0 {
            return Err(InvalidRate::NoUnits);
        }
        if period.is_zero() {
            return Err(InvalidRate::NoTime);
        }
        if period.as_nanos() > Self::MAX_PERIOD.as_nanos() {
            return Err(InvalidRate::TooLong { period });
        }
        if period.as_nanos() < units as u128 {
            return Err(InvalidRate::TooFast { units, period });
        }
        Ok(Self { units, period })
    }

    /// The units.
    #[must_use]
    pub const fn units(self) -> u32 {
        self.units
    }

    /// The period.
    #[must_use]
    pub const fn period(self) -> Duration {
        self.period
    }

    /// The period in nanoseconds.
    pub(crate) const fn nanos(self) -> u64 {
        // At most a year: it fits.
        self.period.as_secs() * 1_000_000_000 + self.period.subsec_nanos() as u64
    }
}

/// `100 in 1s`
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.units, self.period)
    }
}

/// Why a [`Rate`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidRate {
    /// It has no units, and would refuse everything.
    NoUnits,
    /// Its period is zero, and it would refuse nothing.
    NoTime,
    /// Its period is above [`Rate::MAX_PERIOD`].
    TooLong {
        /// The period that was given.
        period: Duration,
    },
    /// It is more than one unit in a nanosecond.
    TooFast {
        /// The units that were given.
        units: u32,
        /// The period that was given.
        period: Duration,
    },
}

impl fmt::Display for InvalidRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUnits => f.write_str("a rate of zero units would refuse everything"),
            Self::NoTime => f.write_str("a rate with a period of zero would refuse nothing"),
            Self::TooLong { period } => {
                write!(f, "a rate's period is at most {:?}, not {period:?}", Rate::MAX_PERIOD)
            }
            Self::TooFast { units, period } => {
                write!(f, "a rate is at most one unit in a nanosecond, not {units} in {period:?}")
            }
        }
    }
}

impl Error for InvalidRate {}
