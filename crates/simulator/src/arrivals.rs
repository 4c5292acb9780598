use std::time::Duration;

use fastrand::Rng;

use crate::{
    durations::exponential,
    nanos::{Nanos, from_duration, from_secs},
    seed::Stream as Chance,
};

/// When calls arrive, whatever becomes of those before them (an open loop: this is what overload is made of).
///
/// ```
/// use std::time::Duration;
/// use buttress_simulator::Arrivals;
///
/// const SECOND: Duration = Duration::from_secs(1);
/// let overload = Arrivals::poisson(80.0)
///     .lasting(30 * SECOND)
///     .then(Arrivals::ramp(80.0, 1000.0).lasting(5 * SECOND))
///     .then(Arrivals::poisson(1000.0).lasting(60 * SECOND))
///     .then(Arrivals::poisson(80.0));
/// # let _ = overload;
/// ```
///
/// Rates are calls a second. All of them panic where a rate is negative or no number.
#[derive(Debug, Clone)]
pub struct Arrivals {
    pattern: Pattern,
    length: Option<Duration>,
}

#[derive(Debug, Clone)]
enum Pattern {
    Poisson { rate: f64 },
    Constant { rate: f64 },
    Ramp { from: f64, to: f64 },
    Bursts { size: u64, every: Duration },
    At(Vec<Duration>),
    Then(Box<Arrivals>, Box<Arrivals>),
    Together(Box<Arrivals>, Box<Arrivals>),
}

impl Arrivals {
    /// At random and independently of each other, as the calls of many users.
    ///
    /// # Panics
    /// See the type.
    #[must_use]
    pub fn poisson(rate: f64) -> Self {
        Self::of(Pattern::Poisson { rate: checked(rate) })
    }

    /// At equal distances, the first at once.
    ///
    /// # Panics
    /// See the type.
    #[must_use]
    pub fn constant(rate: f64) -> Self {
        Self::of(Pattern::Constant { rate: checked(rate) })
    }

    /// At random, at a rate that moves evenly from one to the other. It needs a [length](Self::lasting).
    ///
    /// # Panics
    /// See the type. The simulation panics where no length is given.
    #[must_use]
    pub fn ramp(from: f64, to: f64) -> Self {
        Self::of(Pattern::Ramp { from: checked(from), to: checked(to) })
    }

    /// So many at the same instant, again and again; the first at once.
    ///
    /// # Panics
    /// Where the time between them is zero.
    #[must_use]
    pub fn bursts(size: u64, every: Duration) -> Self {
        assert!(!every.is_zero(), "bursts need some time between them");
        Self::of(Pattern::Bursts { size, every })
    }

    /// At these times from the beginning: a recorded trace. They need not be sorted.
    #[must_use]
    pub fn at(times: impl IntoIterator<Item = Duration>) -> Self {
        let mut times: Vec<Duration> = times.into_iter().collect();
        times.sort_unstable();
        Self::of(Pattern::At(times))
    }

    /// None at all: silence between two patterns, with a [length](Self::lasting).
    #[must_use]
    pub fn none() -> Self {
        Self::constant(0.0)
    }

    fn of(pattern: Pattern) -> Self {
        Self { pattern, length: None }
    }

    /// Ends after that time.
    #[must_use]
    pub fn lasting(mut self, length: Duration) -> Self {
        self.length = Some(self.length.map_or(length, |present| present.min(length)));
        self
    }

    /// When this has ended, the next.
    ///
    /// # Panics
    /// Where this has no end: say how long it is [lasting](Self::lasting).
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let first = self.length.expect("arrivals without an end are never followed by others: say `lasting`");
        let length = next.length.map(|second| first + second);
        Self { pattern: Pattern::Then(Box::new(self), Box::new(next)), length }
    }

    /// Both at the same time.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let length = self.length.zip(other.length).map(|(one, two)| one.max(two));
        Self { pattern: Pattern::Together(Box::new(self), Box::new(other)), length }
    }

    pub(crate) fn stream(&self, seed: u64, population: usize) -> Stream {
        let mut leaves = 0;
        Stream::of(self, &mut || {
            leaves += 1;
            Chance::Arrivals { population, leaf: leaves }.rng(seed)
        })
    }
}

fn checked(rate: f64) -> f64 {
    assert!(rate >= 0.0 && rate.is_finite(), "a rate of {rate} calls a second");
    rate
}

/// The arrivals of one run, one after another.
#[derive(Debug)]
pub(crate) struct Stream {
    source: Source,
    end: Nanos,
}

#[derive(Debug)]
enum Source {
    /// Without chance: the n-th by computing, so that no error adds up.
    Even {
        n: u64,
        size: u64,
        every: f64,
    },
    /// `passed` is how many arrivals were to be expected until now; the rate begins at `from` and changes by `slope`.
    Chance {
        rng: Rng,
        passed: f64,
        from: f64,
        slope: f64,
    },
    At(std::vec::IntoIter<Duration>),
    Then {
        first: Option<Box<Stream>>,
        offset: Nanos,
        second: Box<Stream>,
    },
    Together {
        one: Lookahead,
        other: Lookahead,
    },
}

#[derive(Debug)]
struct Lookahead {
    next: Option<Nanos>,
    stream: Box<Stream>,
}

impl Stream {
    fn of(arrivals: &Arrivals, rng: &mut impl FnMut() -> Rng) -> Self {
        let end = arrivals.length.map_or(Nanos::MAX, from_duration);
        let source = match &arrivals.pattern {
            &Pattern::Poisson { rate } => Source::Chance { rng: rng(), passed: 0.0, from: rate, slope: 0.0 },
            &Pattern::Ramp { from, to } => {
                let length = arrivals.length.expect("a ramp needs a length: say `lasting`").as_secs_f64();
                Source::Chance { rng: rng(), passed: 0.0, from, slope: (to - from) / length }
            }
            &Pattern::Constant { rate } => Source::Even { n: 0, size: 1, every: 1.0 / rate },
            &Pattern::Bursts { size, every } => Source::Even { n: 0, size, every: every.as_secs_f64() },
            Pattern::At(times) => Source::At(times.clone().into_iter()),
            Pattern::Then(first, second) => Source::Then {
                offset: first.length.map_or(Nanos::MAX, from_duration),
                first: Some(Box::new(Self::of(first, rng))),
                second: Box::new(Self::of(second, rng)),
            },
            Pattern::Together(one, other) => Source::Together {
                one: Lookahead::of(Self::of(one, rng)),
                other: Lookahead::of(Self::of(other, rng)),
            },
        };
        Self { source, end }
    }

    /// The time of the next arrival since the beginning.
    pub(crate) fn next(&mut self) -> Option<Nanos> {
        let at = match &mut self.source {
            Source::Even { n, size, every } => {
                if *size == 0 || !every.is_finite() {
                    return None;
                }
                let at = (*n / *size) as f64 * *every;
                *n += 1;
                from_secs(at)
            }
            Source::Chance { rng, passed, from, slope } => {
                *passed += exponential(rng);
                // The time until which so many are expected: `from * t + slope * t * t / 2 = passed`.
                let root = (*from * *from + 2.0 * *slope * *passed).sqrt();
                let at = 2.0 * *passed / (*from + root);
                if !at.is_finite() {
                    return None;
                }
                from_secs(at)
            }
            Source::At(times) => from_duration(times.next()?),
            Source::Then { first, offset, second } => match first.as_mut().and_then(|first| first.next()) {
                Some(at) => at,
                None => {
                    *first = None;
                    second.next()?.saturating_add(*offset)
                }
            },
            Source::Together { one, other } => match (one.next, other.next) {
                (None, _) => other.take()?,
                (Some(at), Some(before)) if before < at => other.take()?,
                _ => one.take()?,
            },
        };
        (at < self.end).then_some(at)
    }

    #[cfg(test)]
    fn count_between(self, from: f64, to: f64) -> usize {
        self.all().filter(|&at| (from..to).contains(&crate::nanos::to_secs(at))).count()
    }

    #[cfg(test)]
    fn all(mut self) -> impl Iterator<Item = Nanos> {
        std::iter::from_fn(move || self.next())
    }
}

impl Lookahead {
    fn of(mut stream: Stream) -> Self {
        Self { next: stream.next(), stream: Box::new(stream) }
    }

    fn take(&mut self) -> Option<Nanos> {
        std::mem::replace(&mut self.next, self.stream.next())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nanos::to_secs;

    const SECOND: Duration = Duration::from_secs(1);

    fn seconds(arrivals: &Arrivals) -> Vec<f64> {
        arrivals.stream(1, 0).all().map(to_secs).collect()
    }

    #[test]
    fn are_where_their_names_say() {
        assert_eq!(seconds(&Arrivals::constant(4.0).lasting(SECOND)), [0.0, 0.25, 0.5, 0.75]);
        assert_eq!(seconds(&Arrivals::bursts(2, SECOND).lasting(2 * SECOND)), [0.0, 0.0, 1.0, 1.0]);
        assert_eq!(seconds(&Arrivals::at([3 * SECOND, SECOND])), [1.0, 3.0]);
        assert_eq!(seconds(&Arrivals::none()), [0.0; 0]);
        assert_eq!(seconds(&Arrivals::poisson(0.0)), [0.0; 0]);
    }

    #[test]
    fn follow_and_surround_each_other() {
        let steps = Arrivals::constant(2.0)
            .lasting(SECOND)
            .then(Arrivals::none().lasting(SECOND))
            .then(Arrivals::constant(1.0).lasting(2 * SECOND));
        assert_eq!(seconds(&steps), [0.0, 0.5, 2.0, 3.0]);
        assert_eq!(seconds(&steps.clone().then(Arrivals::at([SECOND])))[4..], [5.0]);
        assert_eq!(seconds(&steps.and(Arrivals::at([SECOND, 9 * SECOND]))), [0.0, 0.5, 1.0, 2.0, 3.0, 9.0]);
    }

    #[test]
    fn poisson_has_its_rate_and_its_variance() {
        let arrivals = Arrivals::poisson(50.0).lasting(2000 * SECOND);
        let mut counts = vec![0f64; 2000];
        arrivals.stream(3, 0).all().for_each(|at| counts[to_secs(at) as usize] += 1.0);
        let mean = counts.iter().sum::<f64>() / 2000.0;
        let variance = counts.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 2000.0;
        assert!((mean - 50.0).abs() < 0.6, "{mean}");
        assert!((variance - 50.0).abs() < 6.0, "{variance}");
    }

    #[test]
    fn a_ramp_moves_evenly_up_and_down() {
        for (from, to) in [(0.0, 2000.0), (2000.0, 0.0), (500.0, 1500.0)] {
            let ramp = Arrivals::ramp(from, to).lasting(100 * SECOND);
            for tenth in 0..10 {
                let (begin, end) = (f64::from(tenth) * 10.0, f64::from(tenth) * 10.0 + 10.0);
                let expected = 10.0 * (from + (to - from) * (begin + 5.0) / 100.0);
                let count = ramp.stream(5, 0).count_between(begin, end) as f64;
                assert!((count - expected).abs() < 5.0 * expected.sqrt(), "{count} {expected}");
            }
        }
    }

    #[test]
    fn what_follows_does_not_depend_on_what_came_before() {
        let normal = || Arrivals::poisson(20.0).lasting(10 * SECOND);
        let tail = |rate| {
            let all = seconds(&Arrivals::poisson(rate).lasting(10 * SECOND).then(normal()));
            all.into_iter().filter(|&at| at >= 10.0).collect::<Vec<_>>()
        };
        assert_eq!(tail(10.0), tail(500.0));
    }

    #[test]
    #[should_panic(expected = "never followed")]
    fn what_has_no_end_is_not_followed() {
        let _ = Arrivals::poisson(1.0).then(Arrivals::none());
    }

    #[test]
    #[should_panic(expected = "a rate of -1 calls a second")]
    fn a_negative_rate_is_refused() {
        let _ = Arrivals::poisson(-1.0);
    }

    fn any_arrivals() -> impl Strategy<Value = Arrivals> {
        let millis = (0..2000u64).prop_map(Duration::from_millis);
        let leaf = prop_oneof![
            (0.0..200.0, millis.clone()).prop_map(|(rate, length)| Arrivals::poisson(rate).lasting(length)),
            (0.0..200.0, millis.clone()).prop_map(|(rate, length)| Arrivals::constant(rate).lasting(length)),
            (0.0..200.0, 0.0..200.0, millis.clone())
                .prop_map(|(from, to, length)| Arrivals::ramp(from, to).lasting(length)),
            (0..9u64, millis.clone()).prop_map(|(size, length)| {
                Arrivals::bursts(size, Duration::from_millis(30)).lasting(length)
            }),
            (prop::collection::vec(millis.clone(), 0..9), millis)
                .prop_map(|(times, length)| Arrivals::at(times).lasting(length)),
        ];
        leaf.prop_recursive(3, 8, 2, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(one, two)| one.then(two)),
                (inner.clone(), inner).prop_map(|(one, two)| one.and(two)),
            ]
        })
    }

    proptest! {
        #[test]
        fn never_go_back_never_exceed_their_length_and_repeat(arrivals in any_arrivals(), seed: u64) {
            let all: Vec<_> = arrivals.stream(seed, 0).all().collect();
            prop_assert!(all.is_sorted());
            let end = from_duration(arrivals.length.unwrap());
            prop_assert!(all.iter().all(|&at| at < end));
            prop_assert_eq!(all, arrivals.stream(seed, 0).all().collect::<Vec<_>>());
        }
    }
}
