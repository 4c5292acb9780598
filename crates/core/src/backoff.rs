use std::{error::Error, fmt, time::Duration};

/// A growing sequence of delays with a cap.
///
/// It is pure: it sleeps nowhere and reads no clock. The default is 100 ms, doubling, at most 10 s, with full jitter.
///
/// ```
/// use std::time::Duration;
/// use buttress_core::{Backoff, Jitter};
///
/// let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(1))?.with_jitter(Jitter::None);
/// let delays: Vec<_> = backoff.delays().take(5).map(|delay| delay.as_millis()).collect();
/// assert_eq!(delays, [100, 200, 400, 800, 1000]);
/// # Ok::<_, buttress_core::InvalidBackoff>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
    factor: f64,
    jitter: Jitter,
}

/// How chance spreads the delays of many callers. With `c` the delay that grows (the ceiling), see Marc Brooker,
/// "Exponential Backoff And Jitter" (AWS, 2015).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// Always `c`: for tests, or where nobody else waits.
    None,
    /// Between 0 and `c`: the least load on a backend that recovers.
    #[default]
    Full,
    /// Between `c / 2` and `c`: never at once.
    Equal,
    /// Between the first delay and the last one times the factor plus one (three, with the usual factor), capped: grows
    /// by its own chance.
    Decorrelated,
}

impl Backoff {
    /// Starts at `first`, doubles, and never exceeds `cap`; with full jitter.
    ///
    /// # Errors
    /// If `first` is zero, or `cap` is below it.
    pub fn exponential(first: Duration, cap: Duration) -> Result<Self, InvalidBackoff> {
        if first.is_zero() {
            return Err(InvalidBackoff::ZeroFirst);
        }
        if cap < first {
            return Err(InvalidBackoff::CapBelowFirst { first, cap });
        }
        Ok(Self { first, cap, factor: 2.0, jitter: Jitter::Full })
    }

    /// Always the same delay, which may be zero; without jitter.
    pub const fn constant(delay: Duration) -> Self {
        Self { first: delay, cap: delay, factor: 1.0, jitter: Jitter::None }
    }

    /// Grows by this factor instead of 2.
    ///
    /// # Errors
    /// If the factor is below 1 or not a finite number.
    pub fn with_factor(self, factor: f64) -> Result<Self, InvalidBackoff> {
        if factor.is_finite() && factor >= 1.0 {
            Ok(Self { factor, ..self })
        } else {
            Err(InvalidBackoff::Factor(factor))
        }
    }

    /// Spreads the delays in another way.
    #[must_use]
    pub const fn with_jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The `n`th delay (from 0) before chance makes it shorter: its ceiling, for every jitter but the decorrelated.
    pub fn ceiling(&self, n: u32) -> Duration {
        self.clamp(self.first.as_secs_f64() * self.factor.powf(f64::from(n)))
    }

    /// The longest delay there can be.
    pub const fn cap(&self) -> Duration {
        self.cap
    }

    /// The first delay, before the jitter.
    pub const fn first(&self) -> Duration {
        self.first
    }

    /// By what each delay is longer than the one before.
    pub const fn factor(&self) -> f64 {
        self.factor
    }

    /// A sequence of delays with its own source of chance, which the first delay takes from the thread's generator
    /// ([`fastrand::seed`] makes it repeatable).
    pub fn delays(&self) -> Delays {
        Delays { backoff: *self, n: 0, last: self.first, rng: None }
    }

    fn clamp(&self, seconds: f64) -> Duration {
        // Too large, infinite and NaN (0 times infinity) all mean the cap.
        Duration::try_from_secs_f64(seconds).map_or(self.cap, |delay| delay.min(self.cap))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            cap: Duration::from_secs(10),
            factor: 2.0,
            jitter: Jitter::Full,
        }
    }
}

/// The endless sequence of a [`Backoff`].
#[derive(Debug, Clone)]
pub struct Delays {
    backoff: Backoff,
    n: u32,
    last: Duration,
    /// Not before it is needed: of a sequence that is made and never asked, a seeded run must not depend.
    rng: Option<fastrand::Rng>,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let Self { backoff, n, last, rng } = self;
        let rng = rng.get_or_insert_with(fastrand::Rng::new);
        let ceiling = backoff.ceiling(*n);
        *n = n.saturating_add(1);
        *last = match backoff.jitter {
            Jitter::None => ceiling,
            Jitter::Full => ceiling.mul_f64(rng.f64()),
            Jitter::Equal => ceiling.mul_f64(0.5 + rng.f64() / 2.0),
            Jitter::Decorrelated => {
                let (low, high) = (backoff.first.as_secs_f64(), last.as_secs_f64() * (backoff.factor + 1.0));
                backoff.clamp(low + (high - low).max(0.0) * rng.f64())
            }
        };
        Some(*last)
    }
}

/// Why a [`Backoff`] cannot be.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum InvalidBackoff {
    /// The first delay is zero, so it could never grow. [`Backoff::constant`] takes zero.
    ZeroFirst,
    /// The cap is below the first delay.
    CapBelowFirst {
        /// The first delay.
        first: Duration,
        /// The cap.
        cap: Duration,
    },
    /// The factor is below 1 or not finite.
    Factor(f64),
}

impl fmt::Display for InvalidBackoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroFirst => {
                f.write_str("a backoff that starts at zero never grows: give it a first delay")
            }
            Self::CapBelowFirst { first, cap } => {
                write!(f, "a backoff's cap ({cap:?}) must not be below its first delay ({first:?})")
            }
            Self::Factor(factor) => {
                write!(f, "a backoff's factor must be a finite number of at least 1, not {factor}")
            }
        }
    }
}

impl Error for InvalidBackoff {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn refuses_what_cannot_be() {
        let ms = Duration::from_millis;
        assert_eq!(Backoff::exponential(ms(0), ms(1)), Err(InvalidBackoff::ZeroFirst));
        let below = InvalidBackoff::CapBelowFirst { first: ms(2), cap: ms(1) };
        assert_eq!(Backoff::exponential(ms(2), ms(1)), Err(below));
        for factor in [0.9, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(Backoff::default().with_factor(factor), Err(InvalidBackoff::Factor(_))));
        }
        assert!(Backoff::constant(Duration::ZERO).delays().take(3).all(|delay| delay.is_zero()));
    }

    fn jitters() -> impl Strategy<Value = Jitter> {
        prop::sample::select(vec![Jitter::None, Jitter::Full, Jitter::Equal, Jitter::Decorrelated])
    }

    proptest! {
        #[test]
        fn every_delay_keeps_its_bounds(
            first in 1..u64::MAX, cap in 1..u64::MAX, factor in 1.0..1e9, jitter in jitters(), seed: u64,
        ) {
            let (first, cap) = (Duration::from_nanos(first.min(cap)), Duration::from_nanos(first.max(cap)));
            fastrand::seed(seed);
            let backoff = Backoff::exponential(first, cap)?.with_factor(factor)?.with_jitter(jitter);
            for (n, delay) in backoff.delays().take(200).enumerate() {
                let ceiling = backoff.ceiling(u32::try_from(n)?);
                // A nanosecond for the rounding of floats.
                let rounding = Duration::from_nanos(1).max(cap.mul_f64(1e-12));
                match jitter {
                    Jitter::None => prop_assert_eq!(delay, ceiling),
                    Jitter::Full => prop_assert!(delay <= ceiling + rounding),
                    Jitter::Equal => prop_assert!(delay <= ceiling + rounding && delay + rounding >= ceiling / 2),
                    Jitter::Decorrelated => prop_assert!(delay + rounding >= first && delay <= cap),
                }
            }
        }

        #[test]
        fn ceilings_never_fall(first in 1..1_000_000_u64, factor in 1.0..10.0, n in 0..u32::MAX - 1) {
            let backoff = Backoff::exponential(Duration::from_nanos(first), Duration::from_secs(60))?.with_factor(factor)?;
            prop_assert!(backoff.ceiling(n) <= backoff.ceiling(n + 1));
        }
    }

    #[test]
    fn full_jitter_halves_the_ceiling_on_average() {
        fastrand::seed(7);
        let backoff = Backoff::constant(Duration::from_secs(1)).with_jitter(Jitter::Full);
        let mean = backoff.delays().take(10_000).sum::<Duration>().as_secs_f64() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
    }
}
