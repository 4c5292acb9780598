use std::{error::Error, fmt, time::Duration};

use crate::{ramp::WHOLE, window::Tally};

/// Instead of opening, refuses a share of the calls: as many as the backend does not accept anyway. It is known as
/// client-side adaptive throttling (Google, "Site Reliability Engineering", chapter 21).
///
/// With `requests` and `accepts` (calls that did not fail) counted over the window, each call is refused with the
/// probability `max(0, (requests - k * accepts) / (requests + 1))`. Refused calls count as requests. So the backend gets
/// about `k` times the calls that it can accept: enough to find out at once when it can do more, and no state to leave.
/// After a backend that was down has come back, all calls go through within about two windows; the smaller `k` is, the
/// longer it takes (three windows with 1.5, a dozen with 1.1).
///
/// Better than on and off where a backend takes a part of the load. One that fails by chance, however few calls reach it,
/// is not helped by refusing: while it accepts less than one in `k`, the share sinks to a tenth. Nothing is refused before
/// the window holds 20 requests, and never more than nine in ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttle {
    pub(crate) window: Duration,
    k: u32,
    min_calls: u32,
}

/// At least so much is admitted: without any calls nobody finds out when the backend is back.
const LEAST: u32 = WHOLE / 10;

impl Throttle {
    /// Begins to refuse when the backend accepts less than one in `k` of the last `window`'s calls. 2 is usual; a smaller
    /// `k` refuses sooner.
    ///
    /// # Errors
    /// If `k` is not between 1.1 and 100, or the window below a millisecond or above a day.
    pub fn try_new(k: f64, window: Duration) -> Result<Self, InvalidThrottle> {
        if !(1.1..=100.0).contains(&k) {
            return Err(InvalidThrottle::Factor(k));
        }
        if window.as_millis() == 0 || window.as_secs() > 86_400 {
            return Err(InvalidThrottle::Length(window));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a hundred million"
        )]
        let k = (k * f64::from(WHOLE)) as u32;
        Ok(Self { window, k, min_calls: 20 })
    }

    /// Refuses nothing before the window holds so many calls.
    ///
    /// # Errors
    /// If it is zero.
    pub const fn with_min_calls(mut self, n: u32) -> Result<Self, InvalidThrottle> {
        if n == 0 {
            return Err(InvalidThrottle::NoCalls);
        }
        self.min_calls = n;
        Ok(self)
    }

    pub(crate) fn k(self) -> f64 {
        f64::from(self.k) / f64::from(WHOLE)
    }

    /// The share that is admitted, in millionths.
    pub(crate) fn share(self, Tally { calls, failed, .. }: Tally) -> u32 {
        if calls < u64::from(self.min_calls) {
            return WHOLE;
        }
        let (requests, accepts) = (u128::from(calls), u128::from(calls - failed));
        let whole = u128::from(WHOLE);
        let surplus = (requests * whole).saturating_sub(u128::from(self.k) * accepts);
        let refused = surplus / (requests + 1);
        WHOLE - u32::try_from(refused).unwrap_or(WHOLE).min(WHOLE - LEAST)
    }
}

/// Twice what it accepts, over the last 10 s.
impl Default for Throttle {
    fn default() -> Self {
        Self { window: Duration::from_secs(10), k: 2 * WHOLE, min_calls: 20 }
    }
}

/// Why a [`Throttle`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum InvalidThrottle {
    /// A factor that would refuse calls of a healthy backend, or hardly ever any.
    Factor(f64),
    /// A window shorter than a millisecond or longer than a day.
    Length(Duration),
    /// Zero calls, of which nothing can be told.
    NoCalls,
}

impl fmt::Display for InvalidThrottle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Factor(k) => write!(f, "a throttle's factor must be between 1.1 and 100, not {k}"),
            Self::Length(length) => write!(f, "a window must last 1 ms to 1 day, not {length:?}"),
            Self::NoCalls => f.write_str("a throttle cannot judge by zero calls: give at least 1"),
        }
    }
}

impl Error for InvalidThrottle {}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        let second = Duration::from_secs(1);
        for k in [0.0, 1.0, 1.09, 101.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Throttle::try_new(k, second), Err(InvalidThrottle::Factor(_))));
        }
        assert!(Throttle::try_new(2.0, Duration::ZERO).is_err());
        assert!(Throttle::try_new(2.0, Duration::MAX).is_err());
        assert_eq!(Throttle::default().with_min_calls(0), Err(InvalidThrottle::NoCalls));
    }

    proptest! {
        #[test]
        fn the_share_is_the_formulas(calls in 20..1_000_000_u64, failed in 0.0..=1.0_f64, k in 1.1..10.0_f64) {
            #[expect(clippy::cast_sign_loss)]
            let failed = (calls as f64 * failed) as u64;
            let throttle = Throttle::try_new(k, Duration::from_secs(1)).unwrap();
            let (requests, accepts) = (calls as f64, (calls - failed) as f64);
            let refused = ((requests - k * accepts) / (requests + 1.0)).clamp(0.0, 0.9);
            let share = f64::from(throttle.share(Tally { calls, failed, slow: 0 })) / 1e6;
            prop_assert!((share - (1.0 - refused)).abs() < 1e-5, "{share} of {refused}");
        }
    }

    #[test]
    fn a_handful_of_calls_says_nothing() {
        let all = |calls| Tally { calls, failed: calls, slow: 0 };
        assert_eq!(Throttle::default().share(all(19)), WHOLE);
        assert_eq!(Throttle::default().share(all(20)), LEAST);
        assert_eq!(Throttle::default().share(Tally::default()), WHOLE);
    }
}
