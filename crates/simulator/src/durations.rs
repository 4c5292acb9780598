use std::{f64::consts::TAU, fmt, ops::Range, sync::Arc, time::Duration};

use fastrand::Rng;

use crate::nanos::{Nanos, from_duration, from_secs};

/// How durations are spread: of a backend's service, of a caller's thinking.
#[derive(Clone)]
pub struct Durations(Spread);

type Draw = dyn Fn(&mut Rng) -> Duration + Send + Sync;

#[derive(Clone)]
enum Spread {
    Constant(Nanos),
    Uniform(Nanos, Nanos),
    Exponential { mean: f64 },
    Lognormal { median: f64, sigma: f64 },
    Drawn(Arc<Draw>),
}

impl Durations {
    /// Always the same.
    #[must_use]
    pub fn constant(duration: Duration) -> Self {
        Self(Spread::Constant(from_duration(duration)))
    }

    /// All in the range are as likely. An empty range is its start.
    #[must_use]
    pub fn uniform(range: Range<Duration>) -> Self {
        Self(Spread::Uniform(from_duration(range.start), from_duration(range.end)))
    }

    /// Exponentially distributed: without memory, as the formulas of queueing theory like it.
    #[must_use]
    pub fn exponential(mean: Duration) -> Self {
        Self(Spread::Exponential { mean: mean.as_secs_f64() })
    }

    /// Lognormally distributed, told by two figures that a dashboard shows: the median, and what 99 of 100 do not
    /// exceed. This is the form that the latency of real services has, with a long tail. Its mean is
    /// `median * exp(s * s / 2)` with `s = ln(p99 / median) / 2.326`.
    ///
    /// # Panics
    /// Where the median is zero or above `p99`.
    #[must_use]
    pub fn lognormal(median: Duration, p99: Duration) -> Self {
        assert!(
            Duration::ZERO < median && median <= p99,
            "a median of {median:?} with a 99th percentile of {p99:?}"
        );
        /// How many standard deviations the 99th percentile of a normal distribution lies above its mean.
        const P99: f64 = 2.326_347_874;
        let (median, p99) = (median.as_secs_f64(), p99.as_secs_f64());
        Self(Spread::Lognormal { median, sigma: (p99 / median).ln() / P99 })
    }

    /// As the function draws them. It must take its chance from that generator alone, or no seed replays.
    #[must_use]
    pub fn drawn(draw: impl Fn(&mut Rng) -> Duration + Send + Sync + 'static) -> Self {
        Self(Spread::Drawn(Arc::new(draw)))
    }

    pub(crate) fn draw(&self, rng: &mut Rng) -> Nanos {
        match &self.0 {
            Spread::Constant(nanos) => *nanos,
            Spread::Uniform(from, to) => rng.u64(*from..(*to).max(from.saturating_add(1))),
            Spread::Exponential { mean } => from_secs(mean * exponential(rng)),
            Spread::Lognormal { median, sigma } => from_secs(median * (sigma * normal(rng)).exp()),
            Spread::Drawn(draw) => from_duration(draw(rng)),
        }
    }
}

impl fmt::Debug for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Spread::Constant(nanos) => write!(f, "constant({:?})", Duration::from_nanos(*nanos)),
            Spread::Uniform(from, to) => {
                write!(f, "uniform({:?}..{:?})", Duration::from_nanos(*from), Duration::from_nanos(*to))
            }
            Spread::Exponential { mean } => write!(f, "exponential({mean} s)"),
            Spread::Lognormal { median, sigma } => write!(f, "lognormal(median {median} s, sigma {sigma})"),
            Spread::Drawn(_) => f.write_str("drawn(..)"),
        }
    }
}

/// With a mean of one.
pub(crate) fn exponential(rng: &mut Rng) -> f64 {
    // In (0, 1], so that the logarithm is finite.
    -(1.0 - rng.f64()).ln()
}

fn normal(rng: &mut Rng) -> f64 {
    (2.0 * exponential(rng)).sqrt() * (TAU * rng.f64()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(durations: &Durations) -> Vec<f64> {
        let mut rng = Rng::with_seed(7);
        let mut drawn: Vec<f64> = (0..100_000).map(|_| durations.draw(&mut rng) as f64 / 1e6).collect();
        drawn.sort_by(f64::total_cmp);
        drawn
    }

    fn near(told: f64, expected: f64) {
        assert!((told / expected - 1.0).abs() < 0.03, "{told} instead of {expected}");
    }

    #[test]
    fn are_spread_as_their_names_say() {
        const MS: Duration = Duration::from_millis(1);
        assert!(sorted(&Durations::constant(3 * MS)).iter().all(|&ms| ms == 3.0));

        let uniform = sorted(&Durations::uniform(2 * MS..4 * MS));
        assert!(uniform[0] >= 2.0 && uniform[99_999] < 4.0);
        near(uniform[50_000], 3.0);
        assert_eq!(sorted(&Durations::uniform(2 * MS..2 * MS))[99_999], 2.0);

        let exponential = sorted(&Durations::exponential(10 * MS));
        near(exponential.iter().sum::<f64>() / 1e5, 10.0);
        near(exponential[50_000], 10.0 * 2f64.ln());

        let lognormal = sorted(&Durations::lognormal(10 * MS, 50 * MS));
        near(lognormal[50_000], 10.0);
        near(lognormal[99_000], 50.0);
        let sigma = 5f64.ln() / 2.326;
        near(lognormal.iter().sum::<f64>() / 1e5, 10.0 * (sigma * sigma / 2.0).exp());

        let drawn = Durations::drawn(|rng| if rng.bool() { 1 * MS } else { 9 * MS });
        near(sorted(&drawn).iter().sum::<f64>() / 1e5, 5.0);
    }

    #[test]
    #[should_panic(expected = "a median of 2s with a 99th percentile of 1s")]
    fn a_median_above_the_tail_is_refused() {
        let _ = Durations::lognormal(Duration::from_secs(2), Duration::from_secs(1));
    }
}
