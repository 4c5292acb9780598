use std::{cmp::min, time::Duration};

/// When a part is probed and what its results count. Made of what a user set by [`Rules::try_new`], so that it keeps what the
/// README promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// From start to start, while all is well.
    pub(crate) interval: Duration,
    /// The same while it fails.
    pub(crate) recheck: Duration,
    pub(crate) timeout: Duration,
    /// Failures in a row.
    pub(crate) down: u32,
    /// Successes in a row.
    pub(crate) up: u32,
}

/// Which rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Interval,
    Thresholds,
    Timeout,
}

impl Rules {
    /// No wait is longer than what the schedule says, and none shorter than that less this share: then the promise of two
    /// intervals needs no allowance for chance.
    pub(crate) const JITTER: f64 = 0.1;
    /// What a busy machine may take beside, before a probe is overdue.
    pub(crate) const ALLOWANCE: Duration = Duration::from_secs(1);
    /// The step of tokio's timers: what is shorter takes so long all the same.
    const SHORTEST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_secs(24 * 3600);
    const DEFAULT_TIMEOUT: Duration = Duration::from_secs(2);

    pub(crate) fn try_new(
        interval: Duration,
        timeout: Option<Duration>,
        down: u32,
        up: u32,
    ) -> Result<Self, Broken> {
        if !(Self::SHORTEST..=Self::LONGEST).contains(&interval) {
            return Err(Broken::Interval);
        }
        if down == 0 || up == 0 {
            return Err(Broken::Thresholds);
        }
        let timeout = timeout.unwrap_or_else(|| {
            let share = interval / down.max(5);
            share.clamp(Self::SHORTEST, Self::DEFAULT_TIMEOUT)
        });
        let longest = timeout.checked_mul(down).filter(|_| timeout >= Self::SHORTEST);
        if longest.is_none_or(|longest| longest > interval) {
            return Err(Broken::Timeout);
        }
        let recheck = match down - 1 {
            0 => interval / 5,
            more => min(interval / 5, (interval - timeout) / more),
        };
        Ok(Self { interval, recheck, timeout, down, up })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_defaults_are_what_the_readme_says() {
        let rules = Rules::try_new(s(10), None, 3, 2).unwrap();
        assert_eq!(rules, Rules { interval: s(10), recheck: s(2), timeout: s(2), down: 3, up: 2 });
        // The arithmetic of the README.
        assert_eq!(rules.interval + (rules.down - 1) * rules.recheck + rules.timeout, s(16));
    }

    #[test]
    fn what_would_break_the_promise_is_refused() {
        assert_eq!(Rules::try_new(s(10), Some(s(4)), 3, 2), Err(Broken::Timeout));
        assert!(Rules::try_new(s(12), Some(s(4)), 3, 2).is_ok());
        assert_eq!(Rules::try_new(s(10), Some(Duration::ZERO), 3, 2), Err(Broken::Timeout));
        assert_eq!(Rules::try_new(s(10), Some(Duration::MAX), 3, 2), Err(Broken::Timeout));
        assert_eq!(Rules::try_new(Duration::ZERO, None, 3, 2), Err(Broken::Interval));
        assert_eq!(Rules::try_new(Duration::MAX, None, 3, 2), Err(Broken::Interval));
        assert_eq!(Rules::try_new(s(10), None, 0, 2), Err(Broken::Thresholds));
        assert_eq!(Rules::try_new(s(10), None, 3, 0), Err(Broken::Thresholds));
        // More failures than milliseconds leave no time for any.
        let ms = Duration::from_millis(1);
        assert_eq!(Rules::try_new(ms, None, u32::MAX, 1), Err(Broken::Timeout));
        assert_eq!(Rules::try_new(s(10), None, 10_001, 1), Err(Broken::Timeout));
        assert!(Rules::try_new(s(10), None, 10_000, 1).is_ok());
        assert_eq!(Rules::try_new(s(10), Some(ms / 2), 3, 2), Err(Broken::Timeout));
        assert_eq!(Rules::try_new(ms, None, 2, 2), Err(Broken::Timeout));
        assert!(Rules::try_new(ms, Some(ms), 1, 1).is_ok());
        assert_eq!(Rules::try_new(s(10), None, 20, 2).unwrap().timeout, s(10) / 20);
    }
}
