use std::{error::Error, fmt, time::Duration};

use buttress_core::{Setting, SettingValue};

/// How long an attempt may take before the next one starts beside it.
///
/// Made of a [`Duration`], or of a [`Percentile`] of what calls have taken lately.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HedgeDelay {
    /// Always so long. Zero starts the second attempt as soon as the first has to wait.
    Fixed(Duration),
    /// As long as that share of the calls takes.
    Measured(Percentile),
}

/// The 95th percentile: the slowest twentieth of the calls is hedged.
impl Default for HedgeDelay {
    fn default() -> Self {
        Self::Measured(Percentile::default())
    }
}

impl HedgeDelay {
    /// One way or the other: `delay`, or `percentile` with its bounds.
    pub(crate) fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        match self {
            Self::Fixed(delay) => visit(Setting::new("delay", SettingValue::Duration(*delay))),
            Self::Measured(percentile) => {
                visit(Setting::new("percentile", SettingValue::Ratio(percentile.share())));
                visit(Setting::new("delay_until_measured", SettingValue::Duration(percentile.first)));
                visit(Setting::new("delay_min", SettingValue::Duration(percentile.min)));
                visit(Setting::new("delay_max", SettingValue::Duration(percentile.max)));
            }
        }
    }
}

impl From<Duration> for HedgeDelay {
    fn from(delay: Duration) -> Self {
        Self::Fixed(delay)
    }
}

impl From<Percentile> for HedgeDelay {
    fn from(percentile: Percentile) -> Self {
        Self::Measured(percentile)
    }
}

/// A percentile of the time to an answer, measured as calls go.
///
/// Until enough calls were measured, the delay is [`until_measured`](Self::until_measured); then it is the percentile,
/// but never outside of its [bounds](Self::between).
///
/// ```
/// use std::time::Duration;
/// use buttress_hedge::Percentile;
///
/// let ms = Duration::from_millis;
/// let delay = Percentile::try_new(99.0)?.between(ms(5), ms(500))?.until_measured(ms(200));
/// # let _ = delay;
/// # Ok::<_, buttress_hedge::InvalidPercentile>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Percentile {
    percent: f64,
    first: Duration,
    min: Duration,
    max: Duration,
}

impl Percentile {
    /// That percentile, between 1 ms and 10 s, and 1 s until it is measured.
    ///
    /// # Errors
    /// If it is not between 50 and 99.9: below, most calls would be sent twice; beyond, there are too few slow calls to
    /// measure it by.
    pub fn try_new(percent: f64) -> Result<Self, InvalidPercentile> {
        if !(50.0..=99.9).contains(&percent) {
            return Err(InvalidPercentile::Percent(percent));
        }
        Ok(Self { percent, ..Self::default() })
    }

    /// Never below and never above. The timer counts whole milliseconds, so that less than one is no lower bound.
    ///
    /// # Errors
    /// If the upper bound is below the lower.
    pub fn between(self, min: Duration, max: Duration) -> Result<Self, InvalidPercentile> {
        if max < min {
            return Err(InvalidPercentile::Bounds { min, max });
        }
        Ok(Self { min, max, ..self })
    }

    /// The delay until enough calls were measured. It is taken as it is, whatever the bounds.
    #[must_use]
    pub const fn until_measured(self, first: Duration) -> Self {
        Self { first, ..self }
    }

    /// The share of the calls that are not slower.
    pub(crate) fn share(&self) -> f64 {
        self.percent / 100.0
    }

    pub(crate) fn delay(&self, measured: Option<Duration>) -> Duration {
        measured.map_or(self.first, |measured| measured.clamp(self.min, self.max))
    }
}

/// The 95th, between 1 ms and 10 s, and 1 s until it is measured.
impl Default for Percentile {
    fn default() -> Self {
        Self {
            percent: 95.0,
            first: Duration::from_secs(1),
            min: Duration::from_millis(1),
            max: Duration::from_secs(10),
        }
    }
}

/// Why a [`Percentile`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum InvalidPercentile {
    /// It is not between 50 and 99.9.
    Percent(f64),
    /// The upper bound is below the lower.
    Bounds {
        /// The lower bound.
        min: Duration,
        /// The upper bound.
        max: Duration,
    },
}

impl fmt::Display for InvalidPercentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => {
                write!(f, "a hedge's percentile must be between 50 and 99.9, not {percent}")
            }
            Self::Bounds { min, max } => {
                write!(f, "a hedge's longest delay ({max:?}) must not be below its shortest ({min:?})")
            }
        }
    }
}

impl Error for InvalidPercentile {}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn refuses_what_cannot_be() {
        for percent in [49.9, 99.91, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Percentile::try_new(percent), Err(InvalidPercentile::Percent(_))));
        }
        let crossed = InvalidPercentile::Bounds { min: 2 * MS, max: MS };
        assert_eq!(Percentile::default().between(2 * MS, MS), Err(crossed));
        assert!(Percentile::try_new(99.9).unwrap().between(MS, MS).is_ok());
    }

    #[test]
    fn what_is_measured_stays_within_the_bounds() {
        let percentile = Percentile::default().between(10 * MS, 100 * MS).unwrap().until_measured(500 * MS);
        assert_eq!(percentile.delay(None), 500 * MS);
        for (measured, delay) in [(0, 10), (10, 10), (11, 11), (100, 100), (101, 100)] {
            assert_eq!(percentile.delay(Some(measured * MS)), delay * MS);
        }
    }
}
