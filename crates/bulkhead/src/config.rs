use std::{error::Error, fmt, time::Duration};

use buttress_core::{Setting, SettingValue};

use crate::{Adaptive, Criticality, permits::Plan};

/// How many calls may be in flight: a fixed number, or one that follows what the backend can take.
///
/// ```
/// use buttress_bulkhead::{Adaptive, Criticality, Limit};
///
/// let fixed = Limit::fixed(64)?.with_reserve(4, Criticality::CriticalPlus)?;
/// let adaptive = Limit::adaptive(Adaptive::gradient2().with_limits(4, 20, 400)?);
/// # Ok::<_, buttress_bulkhead::InvalidLimit>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    kind: Kind,
    reserve: u32,
    reserved_from: Criticality,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Fixed(u32),
    Adaptive(Adaptive),
}

impl Limit {
    /// The highest limit there can be.
    pub const MAX: u32 = 1_000_000;

    /// At most so many calls at once.
    ///
    /// # Errors
    /// If that is zero or above [`MAX`](Self::MAX).
    pub const fn fixed(calls: u32) -> Result<Self, InvalidLimit> {
        match within_range(calls) {
            Ok(()) => Ok(Self::of(Kind::Fixed(calls))),
            Err(invalid) => Err(invalid),
        }
    }

    /// A limit that finds its value by itself.
    #[must_use]
    pub const fn adaptive(adaptive: Adaptive) -> Self {
        Self::of(Kind::Adaptive(adaptive))
    }

    const fn of(kind: Kind) -> Self {
        Self { kind, reserve: 0, reserved_from: Criticality::CriticalPlus }
    }

    /// Keeps so many of the permits for calls of that level and above, which use them when no other is free.
    ///
    /// # Errors
    /// If the limit, or the least value of an adaptive one, is not above the reserve.
    pub const fn with_reserve(mut self, permits: u32, from: Criticality) -> Result<Self, InvalidLimit> {
        let limit = self.least();
        if permits >= limit {
            return Err(InvalidLimit::NotAboveReserve { limit, reserve: permits });
        }
        self.reserve = permits;
        self.reserved_from = from;
        Ok(self)
    }

    const fn least(self) -> u32 {
        match self.kind {
            Kind::Fixed(calls) => calls,
            Kind::Adaptive(adaptive) => adaptive.min,
        }
    }

    /// A fixed one is `limit`, an adaptive one `algorithm`, `limit_min` and `limit_max`; then the `reserve`.
    pub(crate) fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        match self.kind {
            Kind::Fixed(limit) => visit(Setting::new("limit", SettingValue::Count(limit.into()))),
            Kind::Adaptive(adaptive) => {
                visit(Setting::new("algorithm", SettingValue::Word(adaptive.algorithm.word())));
                visit(Setting::new("limit_min", SettingValue::Count(adaptive.min.into())));
                visit(Setting::new("limit_max", SettingValue::Count(adaptive.max.into())));
            }
        }
        visit(Setting::new("reserve", SettingValue::Count(self.reserve.into())));
    }

    pub(crate) const fn initial(self) -> u32 {
        match self.kind {
            Kind::Fixed(calls) => calls,
            Kind::Adaptive(adaptive) => adaptive.initial,
        }
    }

    pub(crate) const fn adapts(self) -> Option<Adaptive> {
        match self.kind {
            Kind::Fixed(_) => None,
            Kind::Adaptive(adaptive) => Some(adaptive),
        }
    }

    /// Whether the running limit may become that.
    pub(crate) const fn allows(self, limit: u32) -> Result<(), InvalidLimit> {
        if let Err(invalid) = within_range(limit) {
            return Err(invalid);
        }
        if limit <= self.reserve {
            return Err(InvalidLimit::NotAboveReserve { limit, reserve: self.reserve });
        }
        match self.kind {
            Kind::Adaptive(Adaptive { min, max, .. }) if limit < min || limit > max => {
                Err(InvalidLimit::Outside { limit, min, max })
            }
            _ => Ok(()),
        }
    }
}

pub(crate) const fn within_range(limit: u32) -> Result<(), InvalidLimit> {
    match limit {
        0 => Err(InvalidLimit::Zero),
        1..=Limit::MAX => Ok(()),
        _ => Err(InvalidLimit::TooHigh(limit)),
    }
}

/// Lets calls wait for a permit where none is free, instead of refusing them.
///
/// Calls that matter more ([`Criticality`]) go first, within one level first come first served. Where all places are
/// taken, the last of the lowest level is shed for one of a higher level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    pub(crate) capacity: u32,
    pub(crate) max_wait: Duration,
}

impl Queue {
    /// At most `capacity` calls wait, each for at most `max_wait`, and not past the caller's
    /// [`Deadline`](buttress_core::Deadline).
    ///
    /// # Errors
    /// If `capacity` is zero or above [`Limit::MAX`], or `max_wait` is zero or above a day.
    pub const fn try_new(capacity: u32, max_wait: Duration) -> Result<Self, InvalidQueue> {
        if capacity == 0 || capacity > Limit::MAX {
            Err(InvalidQueue::Capacity(capacity))
        } else if max_wait.is_zero() || max_wait.as_secs() > 86_400 {
            Err(InvalidQueue::MaxWait(max_wait))
        } else {
            Ok(Self { capacity, max_wait })
        }
    }
}

/// Why a limit cannot be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum InvalidLimit {
    /// A limit of zero, which would let nothing through.
    Zero,
    /// A limit above [`Limit::MAX`].
    TooHigh(u32),
    /// An adaptive limit's least value is above its highest.
    MinAboveMax {
        /// The least value.
        min: u32,
        /// The highest.
        max: u32,
    },
    /// An adaptive limit would begin, or be set, outside of its bounds.
    Outside {
        /// The limit.
        limit: u32,
        /// The least value.
        min: u32,
        /// The highest.
        max: u32,
    },
    /// The reserve leaves nothing for the other calls.
    NotAboveReserve {
        /// The limit, or the least value of an adaptive one.
        limit: u32,
        /// The reserve.
        reserve: u32,
    },
    /// A factor that does not shrink the limit, or shrinks it to nothing.
    BackoffRatio(f64),
    /// A window shorter than a millisecond or longer than a minute.
    Window(Duration),
    /// A time after which a call is slow that is zero or longer than an hour.
    SlowCall(Duration),
}

impl fmt::Display for InvalidLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("a limit of zero would let nothing through: give at least 1"),
            Self::TooHigh(limit) => write!(f, "a limit must be at most {}, not {limit}", Limit::MAX),
            Self::MinAboveMax { min, max } => {
                write!(f, "the least limit ({min}) must not be above the highest ({max})")
            }
            Self::Outside { limit, min, max } => {
                write!(f, "the limit must be from {min} to {max}, not {limit}")
            }
            Self::NotAboveReserve { limit, reserve } => {
                write!(f, "the limit ({limit}) must be above the reserve ({reserve})")
            }
            Self::BackoffRatio(ratio) => {
                write!(f, "a backoff ratio must be from 0.1 to 0.99, not {ratio}")
            }
            Self::Window(length) => write!(f, "a window must last from 1 ms to 1 min, not {length:?}"),
            Self::SlowCall(length) => {
                write!(
                    f,
                    "the time after which a call is slow must be above zero and at most 1 h, not {length:?}"
                )
            }
        }
    }
}

impl Error for InvalidLimit {}

/// Why a [`Queue`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidQueue {
    /// No place, or more than [`Limit::MAX`].
    Capacity(u32),
    /// A wait of zero, or of more than a day.
    MaxWait(Duration),
}

impl fmt::Display for InvalidQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capacity(n) => write!(f, "a queue must have 1 to {} places, not {n}", Limit::MAX),
            Self::MaxWait(wait) => write!(f, "a wait must be above zero and at most a day, not {wait:?}"),
        }
    }
}

impl Error for InvalidQueue {}

/// All that a bulkhead needs to know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Settings {
    pub(crate) limit: Limit,
    pub(crate) queue: Option<Queue>,
    pub(crate) stripes: usize,
}

impl Settings {
    pub(crate) fn tell(&self, visit: &mut dyn FnMut(Setting)) {
        self.limit.settings(visit);
        let (capacity, wait) = match self.queue {
            Some(queue) => {
                (SettingValue::Count(queue.capacity.into()), SettingValue::Duration(queue.max_wait))
            }
            None => (SettingValue::Off, SettingValue::Off),
        };
        visit(Setting::new("queue_capacity", capacity));
        visit(Setting::new("max_wait", wait));
    }

    pub(crate) fn plan(&self) -> Plan {
        Plan {
            limit: self.limit.initial() as usize,
            reserve: self.limit.reserve as usize,
            reserved_from: self.limit.reserved_from,
            capacity: self.queue.map_or(0, |queue| queue.capacity as usize),
            stripes: self.stripes,
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        assert_eq!(Limit::fixed(0), Err(InvalidLimit::Zero));
        assert_eq!(Limit::fixed(Limit::MAX + 1), Err(InvalidLimit::TooHigh(1_000_001)));
        let ten = Limit::fixed(10).unwrap();
        let reserve = ten.with_reserve(10, Criticality::Critical);
        assert_eq!(reserve, Err(InvalidLimit::NotAboveReserve { limit: 10, reserve: 10 }));
        assert!(ten.with_reserve(9, Criticality::Critical).is_ok());
        let second = Duration::from_secs(1);
        assert_eq!(Queue::try_new(0, second), Err(InvalidQueue::Capacity(0)));
        assert_eq!(Queue::try_new(u32::MAX, second), Err(InvalidQueue::Capacity(u32::MAX)));
        assert_eq!(Queue::try_new(1, Duration::ZERO), Err(InvalidQueue::MaxWait(Duration::ZERO)));
        assert!(Queue::try_new(1, Duration::MAX).is_err());
    }

    #[test]
    fn every_complaint_says_what_to_give() {
        let complaints = [
            InvalidLimit::Zero,
            InvalidLimit::TooHigh(7),
            InvalidLimit::MinAboveMax { min: 7, max: 3 },
            InvalidLimit::Outside { limit: 7, min: 1, max: 3 },
            InvalidLimit::NotAboveReserve { limit: 3, reserve: 7 },
            InvalidLimit::BackoffRatio(7.0),
            InvalidLimit::Window(Duration::from_secs(700)),
            InvalidLimit::SlowCall(Duration::ZERO),
        ];
        for complaint in complaints {
            let said = complaint.to_string();
            assert!(said.contains("must") || said.contains("at least"), "{said}");
        }
    }
}
