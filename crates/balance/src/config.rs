use std::{error::Error, fmt, num::NonZeroUsize, time::Duration};

use buttress_core::{Origin, Setting, SettingValue};

/// When endpoints that fail are taken out of the rotation, and for how long: see the
/// [crate's documentation](crate#outlier-ejection).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ejection {
    /// 0: nothing is ever ejected.
    pub(crate) consecutive: u32,
    pub(crate) time: Duration,
    pub(crate) max_share: f64,
}

impl Default for Ejection {
    /// After 5 failures in a row, for 30 s, at most half of the endpoints.
    fn default() -> Self {
        Self { consecutive: 5, time: Duration::from_secs(30), max_share: 0.5 }
    }
}

impl Ejection {
    /// The longest time is so many times the first.
    pub(crate) const LONGEST: u32 = 10;

    /// After so many failures in a row (1 to 1,000); for so long (1 ms to 1 h) the first time, twice as long the second and
    /// so on, at most ten times as long; at most this share of the endpoints at the same time (above 0, at most 1), though
    /// one may always be.
    ///
    /// # Errors
    /// When a value is out of its bounds.
    pub fn try_new(
        consecutive_failures: u32,
        time: Duration,
        max_share: f64,
    ) -> Result<Self, InvalidBalance> {
        if !(1..=1_000).contains(&consecutive_failures) {
            return Err(InvalidBalance("an ejection takes 1 to 1,000 consecutive failures"));
        }
        if !(Duration::from_millis(1)..=Duration::from_secs(3_600)).contains(&time) {
            return Err(InvalidBalance("an ejection lasts from 1 ms to 1 h"));
        }
        if !(max_share > 0.0 && max_share <= 1.0) {
            return Err(InvalidBalance("the largest share ejected is above 0 and at most 1"));
        }
        Ok(Self { consecutive: consecutive_failures, time, max_share })
    }

    /// No endpoint is ejected by its failures.
    #[must_use]
    pub const fn off() -> Self {
        Self { consecutive: 0, time: Duration::ZERO, max_share: 0.0 }
    }

    pub(crate) const fn is_off(&self) -> bool {
        self.consecutive == 0
    }
}

/// What cannot be a setting of a balancer, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidBalance(pub(crate) &'static str);

impl fmt::Display for InvalidBalance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for InvalidBalance {}

/// Nanoseconds since the balancer was made: what fits into an atomic.
pub(crate) type Nanos = u64;

pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) origin: Origin,
    pub(crate) ejection: Ejection,
    pub(crate) decay: Duration,
    pub(crate) slow_start: Nanos,
    pub(crate) first_wait: Duration,
    pub(crate) max_endpoints: NonZeroUsize,
    pub(crate) zone: Option<Box<str>>,
    /// How much more than its share of the calls an endpoint may have where calls go by key.
    pub(crate) bound: Option<f64>,
}

impl Settings {
    pub(crate) fn tell(&self, visit: &mut dyn FnMut(Setting)) {
        let Ejection { consecutive, time, max_share } = self.ejection;
        let ejection = |value| if self.ejection.is_off() { SettingValue::Off } else { value };
        let settings = [
            ("ejection_consecutive_failures", ejection(SettingValue::Count(consecutive.into()))),
            ("ejection_time", ejection(SettingValue::Duration(time))),
            ("ejection_max_share", ejection(SettingValue::Ratio(max_share))),
            ("decay", SettingValue::Duration(self.decay)),
            (
                "slow_start",
                match self.slow_start {
                    0 => SettingValue::Off,
                    window => SettingValue::Duration(Duration::from_nanos(window)),
                },
            ),
            ("first_wait", SettingValue::Duration(self.first_wait)),
            ("max_endpoints", SettingValue::Count(self.max_endpoints.get() as u64)),
            ("zone", if self.zone.is_some() { SettingValue::Word("custom") } else { SettingValue::Off }),
            ("bounded", self.bound.map_or(SettingValue::Off, SettingValue::Ratio)),
        ];
        settings.into_iter().for_each(|(name, value)| visit(Setting::new(name, value)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let second = Duration::from_secs(1);
        for (consecutive, time, share) in [
            (0, second, 0.5),
            (1_001, second, 0.5),
            (5, Duration::ZERO, 0.5),
            (5, 3_601 * second, 0.5),
            (5, second, 0.0),
            (5, second, 1.1),
            (5, second, f64::NAN),
        ] {
            assert!(Ejection::try_new(consecutive, time, share).is_err(), "{consecutive} {time:?} {share}");
        }
        assert_eq!(Ejection::try_new(5, 30 * second, 0.5), Ok(Ejection::default()));
        assert!(Ejection::off().is_off() && !Ejection::default().is_off());
    }
}
