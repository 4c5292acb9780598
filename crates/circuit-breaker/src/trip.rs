use std::{error::Error, fmt, time::Duration};

use buttress_core::SettingValue;

use crate::throttle::Throttle;

/// How much of the past a failure rate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(pub(crate) Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Calls(u32),
    Time(Duration),
}

impl Window {
    pub(crate) fn setting(self) -> SettingValue {
        match self.0 {
            Kind::Calls(n) => SettingValue::Count(n.into()),
            Kind::Time(length) => SettingValue::Duration(length),
        }
    }

    /// The last `n` calls, exactly.
    ///
    /// # Errors
    /// If `n` is zero or above [`MAX_CALLS`](Self::MAX_CALLS).
    pub const fn calls(n: u32) -> Result<Self, InvalidTrip> {
        if n == 0 || n > Self::MAX_CALLS { Err(InvalidTrip::Calls(n)) } else { Ok(Self(Kind::Calls(n))) }
    }

    /// The calls of the last `length`, kept in 9 to 17 buckets: a call is forgotten up to a quarter of the length late.
    ///
    /// # Errors
    /// If `length` is below a millisecond or above a day.
    pub const fn time(length: Duration) -> Result<Self, InvalidTrip> {
        if length.as_millis() == 0 || length.as_secs() > 86_400 {
            Err(InvalidTrip::Length(length))
        } else {
            Ok(Self(Kind::Time(length)))
        }
    }

    /// How many good calls may be counted together, so that they do not replace the whole window; at most `most`.
    pub(crate) fn room(self, most: u64) -> u64 {
        match self.0 {
            Kind::Calls(n) => most.min(n.into()),
            Kind::Time(_) => most,
        }
    }

    /// The longest window of calls; it takes 128 KiB.
    pub const MAX_CALLS: u32 = 65_536;
}

/// When the breaker opens. Each signal alone is enough. Only a failure or a slow call opens it, never a success.
///
/// The default is half of the last 100 calls, once there were 20.
///
/// ```
/// use std::time::Duration;
/// use buttress_circuit_breaker::{Trip, Window};
///
/// let last_minute = Trip::failure_rate(0.3, Window::time(Duration::from_secs(60))?)?
///     .with_min_calls(50)?
///     .with_slow_rate(0.8)?
///     .with_consecutive(10)?;
/// # Ok::<_, buttress_circuit_breaker::InvalidTrip>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trip {
    pub(crate) rates: Option<Rates>,
    pub(crate) consecutive: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    pub(crate) window: Window,
    pub(crate) failed: Rate,
    pub(crate) slow: Option<Rate>,
    pub(crate) min_calls: u32,
}

impl Trip {
    /// Opens when this share (above 0, at most 1) of the calls in the window failed, once the window holds the least
    /// number of calls: 20, or all of a shorter window of calls, unless [`with_min_calls`](Self::with_min_calls) says
    /// otherwise.
    ///
    /// # Errors
    /// If the share is not above 0 and at most 1.
    pub fn failure_rate(rate: f64, window: Window) -> Result<Self, InvalidTrip> {
        let failed = Rate::try_new(rate)?;
        let min_calls = match window.0 {
            Kind::Calls(n) => n.min(20),
            Kind::Time(_) => 20,
        };
        Ok(Self { rates: Some(Rates { window, failed, slow: None, min_calls }), consecutive: None })
    }

    /// Opens after `n` failures in a row.
    ///
    /// # Errors
    /// If `n` is zero.
    pub const fn consecutive(n: u32) -> Result<Self, InvalidTrip> {
        Self { rates: None, consecutive: None }.with_consecutive(n)
    }

    /// Also opens after `n` failures in a row.
    ///
    /// # Errors
    /// If `n` is zero.
    pub const fn with_consecutive(mut self, n: u32) -> Result<Self, InvalidTrip> {
        if n == 0 {
            return Err(InvalidTrip::NoFailures);
        }
        self.consecutive = Some(n);
        Ok(self)
    }

    /// Also opens when this share of the calls in the window took longer than the layer's `slow_call`. Each call then
    /// reads the clock twice.
    ///
    /// # Errors
    /// If the share is not above 0 and at most 1, or there is no window to take it of.
    pub fn with_slow_rate(mut self, rate: f64) -> Result<Self, InvalidTrip> {
        self.rates.as_mut().ok_or(InvalidTrip::NoWindow)?.slow = Some(Rate::try_new(rate)?);
        Ok(self)
    }

    /// Looks at the rates only when the window holds at least `n` calls.
    ///
    /// # Errors
    /// If `n` is zero or more than the window can hold, or there is no window.
    pub fn with_min_calls(mut self, n: u32) -> Result<Self, InvalidTrip> {
        let rates = self.rates.as_mut().ok_or(InvalidTrip::NoWindow)?;
        match rates.window.0 {
            Kind::Calls(window) if n > window => return Err(InvalidTrip::MinCalls { min_calls: n, window }),
            _ if n == 0 => return Err(InvalidTrip::NoFailures),
            _ => rates.min_calls = n,
        }
        Ok(self)
    }
}

impl Default for Trip {
    fn default() -> Self {
        let rates =
            Rates { window: Window(Kind::Calls(100)), failed: Rate(500_000), slow: None, min_calls: 20 };
        Self { rates: Some(rates), consecutive: None }
    }
}

/// What the breaker does about failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    Trip(Trip),
    Throttle(Throttle),
}

impl Policy {
    pub(crate) fn window(self) -> Option<Window> {
        match self {
            Self::Trip(trip) => trip.rates.map(|rates| rates.window),
            Self::Throttle(throttle) => Some(Window(Kind::Time(throttle.window))),
        }
    }

    pub(crate) const fn trip(self) -> Option<Trip> {
        match self {
            Self::Trip(trip) => Some(trip),
            Self::Throttle(_) => None,
        }
    }

    /// Whether a call's duration is wanted whatever becomes of it.
    pub(crate) fn times_calls(self) -> bool {
        matches!(self, Self::Trip(Trip { rates: Some(Rates { slow: Some(_), .. }), .. }))
    }
}

/// A share in millionths, so that "7 of 100" is not lost to the rounding of floats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate(u32);

impl Rate {
    pub(crate) fn share(self) -> f64 {
        f64::from(self.0) / 1e6
    }

    fn try_new(rate: f64) -> Result<Self, InvalidTrip> {
        if !(rate > 0.0 && rate <= 1.0) {
            return Err(InvalidTrip::Rate(rate));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a million")]
        let millionths = (rate * 1e6) as u32;
        Ok(Self(millionths.max(1)))
    }

    pub(crate) const fn is_reached(self, part: u64, whole: u64) -> bool {
        part * 1_000_000 >= whole * self.0 as u64
    }
}

/// Why a [`Trip`] or a [`Window`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum InvalidTrip {
    /// A window of no calls, or of too many.
    Calls(u32),
    /// A window shorter than a millisecond or longer than a day.
    Length(Duration),
    /// A share outside of 0 to 1.
    Rate(f64),
    /// A count of zero, which would open at once.
    NoFailures,
    /// More calls are asked for than the window holds.
    MinCalls {
        /// The calls asked for.
        min_calls: u32,
        /// The window's calls.
        window: u32,
    },
    /// A rate without a window.
    NoWindow,
}

impl fmt::Display for InvalidTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calls(n) => write!(f, "a window must hold 1 to {} calls, not {n}", Window::MAX_CALLS),
            Self::Length(length) => write!(f, "a window must last 1 ms to 1 day, not {length:?}"),
            Self::Rate(rate) => write!(f, "a rate must be above 0 and at most 1, not {rate}"),
            Self::NoFailures => f.write_str("a breaker cannot open after zero calls: give at least 1"),
            Self::MinCalls { min_calls, window } => {
                write!(
                    f,
                    "{min_calls} calls never fit into a window of {window}: the breaker would never open"
                )
            }
            Self::NoWindow => f.write_str("a rate needs a window: start with Trip::failure_rate"),
        }
    }
}

impl Error for InvalidTrip {}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        let calls = Window::calls(10).unwrap();
        assert_eq!(Window::calls(0), Err(InvalidTrip::Calls(0)));
        assert!(Window::calls(Window::MAX_CALLS + 1).is_err());
        assert!(Window::time(Duration::from_micros(999)).is_err());
        assert!(Window::time(Duration::MAX).is_err());
        for rate in [0.0, -0.1, 1.01, f64::NAN, f64::INFINITY] {
            assert!(matches!(Trip::failure_rate(rate, calls), Err(InvalidTrip::Rate(_))));
        }
        assert_eq!(Trip::consecutive(0), Err(InvalidTrip::NoFailures));
        assert_eq!(Trip::consecutive(1).unwrap().with_slow_rate(0.5), Err(InvalidTrip::NoWindow));
        let trip = Trip::failure_rate(0.5, calls).unwrap();
        assert_eq!(trip.with_min_calls(11), Err(InvalidTrip::MinCalls { min_calls: 11, window: 10 }));
        assert_eq!(trip.with_min_calls(0), Err(InvalidTrip::NoFailures));
    }

    #[test]
    fn a_rate_is_reached_exactly() {
        for hundredths in 1..=100_u32 {
            let rate = Rate::try_new(f64::from(hundredths) / 100.0).unwrap();
            assert!(rate.is_reached(u64::from(hundredths), 100));
            assert!(!rate.is_reached(u64::from(hundredths) - 1, 100));
        }
        assert!(Rate::try_new(2.0 / 3.0).unwrap().is_reached(2, 3));
        assert!(Rate::try_new(5.0 / 7.0).unwrap().is_reached(5, 7));
    }
}
