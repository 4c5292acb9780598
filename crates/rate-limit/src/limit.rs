use std::{error::Error, fmt};

use buttress_core::{Setting, SettingValue};

use crate::Rate;

/// A rate, and how it is held.
///
/// ```
/// use buttress_rate_limit::{Limit, Rate};
///
/// let window = Limit::from(Rate::per_second(100));
/// let smooth = Limit::gcra(Rate::per_second(100), 10)?;
/// let exact = Limit::sliding_log(Rate::per_minute(30))?;
/// # Ok::<_, buttress_rate_limit::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limit {
    rate: Rate,
    algorithm: Algorithm,
}

/// How a [`Limit`] is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// Counts in parts of the period: see [`Limit::sliding_window`].
    SlidingWindow,
    /// Remembers every unit: see [`Limit::sliding_log`].
    SlidingLog,
    /// Spreads units evenly: see [`Limit::gcra`].
    Gcra {
        /// How many may come at once.
        burst: u32,
    },
    /// Counts from one edge of the period to the next: see [`Limit::fixed_window`].
    FixedWindow,
}

impl Algorithm {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::SlidingWindow => "sliding_window",
            Self::SlidingLog => "sliding_log",
            Self::Gcra { .. } => "gcra",
            Self::FixedWindow => "fixed_window",
        }
    }
}

/// What the limits are called, in their order, in a handle's settings. More than these are not told.
const NAMES: [[&str; 3]; 4] = [
    ["limit", "per", "algorithm"],
    ["limit_2", "per_2", "algorithm_2"],
    ["limit_3", "per_3", "algorithm_3"],
    ["limit_4", "per_4", "algorithm_4"],
];

pub(crate) fn settings(limits: impl Iterator<Item = Limit>, visit: &mut dyn FnMut(Setting)) {
    for ([limit, per, algorithm], value) in NAMES.into_iter().zip(limits) {
        visit(Setting::new(limit, SettingValue::Count(value.rate().units().into())));
        visit(Setting::new(per, SettingValue::Duration(value.rate().period())));
        visit(Setting::new(algorithm, SettingValue::Word(value.algorithm().word())));
    }
}

impl Limit {
    /// The most units of a [sliding log](Self::sliding_log), which remembers each.
    pub const MAX_LOG: u32 = 1 << 20;

    /// Never more than the rate's units in any period, wherever it begins.
    ///
    /// The period is cut into parts, and a unit counts until the part that it came in has left the period: less than a
    /// 128th longer than it should, or a 16th where each key has a limit. So it admits whatever an exact log over a
    /// period so much longer would admit, and costs the same at any rate. `Limit::from(rate)` is the same.
    #[must_use]
    pub const fn sliding_window(rate: Rate) -> Self {
        Self { rate, algorithm: Algorithm::SlidingWindow }
    }

    /// Never more than the rate's units in any period, and not one less: it remembers when each unit came, in 8 bytes.
    ///
    /// # Errors
    /// If the rate has more than [`MAX_LOG`](Self::MAX_LOG) units.
    pub const fn sliding_log(rate: Rate) -> Result<Self, InvalidLimit> {
        if rate.units() > Self::MAX_LOG {
            return Err(InvalidLimit::LogTooLong { units: rate.units() });
        }
        Ok(Self { rate, algorithm: Algorithm::SlidingLog })
    }

    /// Spreads units evenly over the period, after up to `burst` at once: in any span of time at most the burst and what
    /// the rate makes of that time. In a whole period that can be the burst more than the rate's units.
    ///
    /// This is the Generic Cell Rate Algorithm of ITU-T I.371, the same as a token bucket that holds `burst`. The time
    /// between two units is rounded up to a nanosecond.
    ///
    /// # Errors
    /// If the burst is zero, or would take more than a year to come back.
    pub const fn gcra(rate: Rate, burst: u32) -> Result<Self, InvalidLimit> {
        if burst == 0 {
            return Err(InvalidLimit::NoBurst);
        }
        let limit = Self { rate, algorithm: Algorithm::Gcra { burst } };
        if limit.interval() as u128 * burst as u128 > Rate::MAX_PERIOD.as_nanos() {
            return Err(InvalidLimit::BurstTooLong { burst });
        }
        Ok(limit)
    }

    /// Counts from one edge to the next, a period apart. Two bursts around an edge are twice the rate's units within a
    /// moment: choose it where somebody else counts so too.
    #[must_use]
    pub const fn fixed_window(rate: Rate) -> Self {
        Self { rate, algorithm: Algorithm::FixedWindow }
    }

    /// The rate.
    #[must_use]
    pub const fn rate(self) -> Rate {
        self.rate
    }

    /// How it is held.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    /// How many units may come at once: the burst of GCRA, else the rate's units. A call of more can never be admitted.
    #[must_use]
    pub const fn most_at_once(self) -> u32 {
        match self.algorithm {
            Algorithm::Gcra { burst } => burst,
            _ => self.rate.units(),
        }
    }

    /// Nanoseconds from one unit to the next.
    pub(crate) const fn interval(self) -> u64 {
        self.rate.nanos().div_ceil(self.rate.units() as u64)
    }
}

/// A [sliding window](Limit::sliding_window).
impl From<Rate> for Limit {
    fn from(rate: Rate) -> Self {
        Self::sliding_window(rate)
    }
}

/// Why a [`Limit`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidLimit {
    /// A burst of zero would refuse everything.
    NoBurst,
    /// The burst would take more than a year to come back.
    BurstTooLong {
        /// The burst that was given.
        burst: u32,
    },
    /// A log of more than [`Limit::MAX_LOG`] units.
    LogTooLong {
        /// The units that were given.
        units: u32,
    },
}

impl fmt::Display for InvalidLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoBurst => f.write_str("a burst of zero would refuse everything"),
            Self::BurstTooLong { burst } => {
                write!(f, "at this rate a burst of {burst} takes more than a year to come back")
            }
            Self::LogTooLong { units } => write!(
                f,
                "a log remembers at most {} units, not {units}: use a sliding window",
                Limit::MAX_LOG
            ),
        }
    }
}

impl Error for InvalidLimit {}

/// Why a limiter's limits cannot become others: see [`RateLimiter::set_limits`](crate::RateLimiter::set_limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidLimits {
    /// They are more or fewer than it has.
    Count {
        /// The limiter's name.
        name: &'static str,
        /// So many it has.
        has: usize,
        /// So many were given.
        given: usize,
    },
    /// One of them is held by another algorithm.
    Algorithm {
        /// The limiter's name.
        name: &'static str,
        /// Which of its limits, counted from zero.
        index: usize,
        /// How that is held.
        has: Algorithm,
        /// How it was to be held.
        given: Algorithm,
    },
}

impl InvalidLimits {
    pub(crate) fn check(name: &'static str, has: &[Limit], given: &[Limit]) -> Result<(), Self> {
        if has.len() != given.len() {
            return Err(Self::Count { name, has: has.len(), given: given.len() });
        }
        for (index, (has, given)) in has.iter().zip(given).enumerate() {
            let (has, given) = (has.algorithm, given.algorithm);
            if has.word() != given.word() {
                return Err(Self::Algorithm { name, index, has, given });
            }
        }
        Ok(())
    }
}

impl fmt::Display for InvalidLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count { name, has, given } => write!(
                f,
                "the rate limiter `{name}` has {has} limits and was given {given}: give it as many, or make another"
            ),
            Self::Algorithm { name, index, has, given } => write!(
                f,
                "limit {} of the rate limiter `{name}` is held by {} and not by {}: keep that, or make another limiter",
                index + 1,
                has.word(),
                given.word()
            ),
        }
    }
}

impl Error for InvalidLimits {}
