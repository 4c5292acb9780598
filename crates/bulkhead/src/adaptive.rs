use std::time::Duration;

use crate::{InvalidLimit, config::within_range};

mod gather;
mod gradient;
mod machine;
mod vegas;

pub(crate) use self::gather::{Gather, Verdict};

/// A limit that follows what the backend can take. Begins at 20.
///
/// | | looks at | reaches |
/// |---|---|---|
/// | [`aimd`](Self::aimd) | failures, timeouts, slow calls | 1 to 200 |
/// | [`gradient2`](Self::gradient2) | the latency against its long average, and failures | 1 to 200 |
/// | [`vegas`](Self::vegas) | how many calls queue at the backend, by the latency against its least, and failures | 1 to 1000 |
///
/// ```
/// use std::time::Duration;
/// use buttress_bulkhead::Adaptive;
///
/// let adaptive = Adaptive::aimd()
///     .with_limits(4, 32, 256)?
///     .with_backoff_ratio(0.75)?
///     .with_slow_call(Duration::from_millis(500))?;
/// # Ok::<_, buttress_bulkhead::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adaptive {
    pub(crate) algorithm: Algorithm,
    pub(crate) min: u32,
    pub(crate) initial: u32,
    pub(crate) max: u32,
    backoff_ratio: f64,
    window: Duration,
    slow_call: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Aimd,
    Gradient2,
    Vegas,
}

impl Algorithm {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Aimd => "aimd",
            Self::Gradient2 => "gradient2",
            Self::Vegas => "vegas",
        }
    }
}

impl Adaptive {
    /// Grows by one for each window that was good, and shrinks by a tenth for each that was bad (additive increase,
    /// multiplicative decrease: what TCP began with). For backends whose latency says little, and that fail or time out
    /// when they have too much to do.
    #[must_use]
    pub const fn aimd() -> Self {
        Self::of(Algorithm::Aimd, 200)
    }

    /// Grows while the latency stays within 1.5 times its average of the last 10 minutes, and shrinks as it rises above
    /// that: Netflix's Gradient2. For most backends.
    #[must_use]
    pub const fn gradient2() -> Self {
        Self::of(Algorithm::Gradient2, 200)
    }

    /// Reckons from the least latency how many calls queue at the backend, and keeps that between 3 and 6 times the
    /// logarithm of the limit: TCP Vegas. For backends with a steady latency; it finds the knee of one that queues.
    #[must_use]
    pub const fn vegas() -> Self {
        Self::of(Algorithm::Vegas, 1000)
    }

    const fn of(algorithm: Algorithm, max: u32) -> Self {
        Self {
            algorithm,
            min: 1,
            initial: 20,
            max,
            backoff_ratio: 0.9,
            window: Duration::from_millis(100),
            slow_call: Duration::from_secs(1),
        }
    }

    /// The least limit, the one to begin with, and the highest.
    ///
    /// # Errors
    /// If one of them is zero or above [`Limit::MAX`](crate::Limit::MAX), or they are not in that order.
    pub const fn with_limits(mut self, min: u32, initial: u32, max: u32) -> Result<Self, InvalidLimit> {
        match (within_range(min), within_range(initial), within_range(max)) {
            (Err(invalid), ..) | (_, Err(invalid), _) | (.., Err(invalid)) => return Err(invalid),
            _ => {}
        }
        if min > max {
            return Err(InvalidLimit::MinAboveMax { min, max });
        }
        if initial < min || initial > max {
            return Err(InvalidLimit::Outside { limit: initial, min, max });
        }
        (self.min, self.initial, self.max) = (min, initial, max);
        Ok(self)
    }

    /// By what a bad window multiplies the limit. Default: 0.9.
    ///
    /// # Errors
    /// If that is not from 0.1 to 0.99.
    pub fn with_backoff_ratio(mut self, ratio: f64) -> Result<Self, InvalidLimit> {
        if !(0.1..=0.99).contains(&ratio) {
            return Err(InvalidLimit::BackoffRatio(ratio));
        }
        self.backoff_ratio = ratio;
        Ok(self)
    }

    /// How often the limit is reconsidered, where there were enough calls. Default: 100 ms. Shorter than a usual call, it
    /// changes nothing: a window is as long as it takes 10 calls to end.
    ///
    /// # Errors
    /// If that is below a millisecond or above a minute.
    pub const fn with_window(mut self, length: Duration) -> Result<Self, InvalidLimit> {
        if length.as_millis() == 0 || length.as_millis() > 60_000 {
            return Err(InvalidLimit::Window(length));
        }
        self.window = length;
        Ok(self)
    }

    /// From which duration on a call that is dropped counts as bad, so that a timeout around the bulkhead cannot hide a
    /// backend that hangs; for [`aimd`](Self::aimd) one that succeeds too. Default: 1 s.
    ///
    /// # Errors
    /// If that is zero or above an hour.
    pub const fn with_slow_call(mut self, duration: Duration) -> Result<Self, InvalidLimit> {
        if duration.is_zero() || duration.as_secs() > 3_600 {
            return Err(InvalidLimit::SlowCall(duration));
        }
        self.slow_call = duration;
        Ok(self)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        let aimd = Adaptive::aimd();
        assert_eq!(aimd.with_limits(0, 1, 2), Err(InvalidLimit::Zero));
        assert_eq!(aimd.with_limits(1, 1, 1_000_001), Err(InvalidLimit::TooHigh(1_000_001)));
        assert_eq!(aimd.with_limits(5, 4, 3), Err(InvalidLimit::MinAboveMax { min: 5, max: 3 }));
        for initial in [1, 6] {
            let outside = Err(InvalidLimit::Outside { limit: initial, min: 2, max: 5 });
            assert_eq!(aimd.with_limits(2, initial, 5), outside);
        }
        assert!(aimd.with_limits(3, 3, 3).is_ok());
        for factor in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(aimd.with_backoff_ratio(factor), Err(InvalidLimit::BackoffRatio(_))));
        }
        for length in [Duration::ZERO, Duration::from_micros(999), Duration::MAX] {
            assert_eq!(aimd.with_window(length), Err(InvalidLimit::Window(length)));
        }
        for length in [Duration::ZERO, Duration::MAX] {
            assert_eq!(aimd.with_slow_call(length), Err(InvalidLimit::SlowCall(length)));
        }
    }
}
