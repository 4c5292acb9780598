use std::thread;

use proptest::prelude::*;

use super::*;
use crate::histogram::PLACES;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// The nearest rank, of times that are all known.
fn exact(mut times: Vec<Duration>, share: f64) -> Duration {
    times.sort();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.max(1) - 1]
}

/// What is promised of the estimate.
fn is_near(estimate: Duration, exact: Duration) -> bool {
    exact <= estimate && estimate <= exact + (exact / 16).max(Duration::from_micros(66))
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Constant,
    Uniform,
    Exponential,
    /// A tail that falls off slowly.
    Pareto,
    /// One in twenty is fifty times slower: the 95th percentile lies at the gap.
    TwoModes,
    LogNormal,
}

fn shapes() -> impl Strategy<Value = Shape> {
    use Shape::{Constant, Exponential, LogNormal, Pareto, TwoModes, Uniform};
    prop::sample::select(vec![Constant, Uniform, Exponential, Pareto, TwoModes, LogNormal])
}

impl Shape {
    fn draw(self, scale: Duration, rng: &mut fastrand::Rng) -> Duration {
        let uniform = rng.f64().max(1e-9);
        let factor = match self {
            Self::Constant => 1.0,
            Self::Uniform => 2.0 * uniform,
            Self::Exponential => -uniform.ln(),
            Self::Pareto => uniform.powf(-0.7),
            Self::TwoModes => uniform + if rng.u32(..20) == 0 { 50.0 } else { 1.0 },
            // Twelve uniform numbers make a normal one.
            Self::LogNormal => ((0..12).map(|_| rng.f64()).sum::<f64>() - 6.0).exp(),
        };
        scale.mul_f64(factor.min(1e6))
    }
}

proptest! {
    /// Against a log of everything, cut into windows by the same rule.
    #[test]
    fn is_the_percentile_of_the_last_windows(
        phases in prop::collection::vec((shapes(), 100..200_000_u64, 1..2500_usize, 0..40_u64, 0..20_u32), 1..5),
        percent in 50.0..99.9, seed: u64,
    ) {
        let share = percent / 100.0;
        let estimator = Estimator::new(share, 1);
        let mut rng = fastrand::Rng::with_seed(seed);
        // All calls, and where the two windows begin.
        let (mut log, mut old, mut new) = (Vec::new(), 0, 0);
        let (start, mut at, mut began, mut recorded) = (Instant::now(), Duration::ZERO, None, 0);
        let mut known = None;
        for (shape, micros, calls, pause_ms, at_once) in phases {
            for _ in 0..calls {
                at += Duration::from_millis(pause_ms);
                if rng.u32(..20) < at_once {
                    estimator.at_once();
                    log.push(Duration::ZERO);
                    continue;
                }
                let took = shape.draw(Duration::from_micros(micros), &mut rng).min(1000 * SECOND);
                estimator.record(took, start + at);
                log.push(took);
                recorded += 1;
                if recorded % REFRESH == 0 || known.is_none() {
                    let lasted = at - *began.get_or_insert(at);
                    let is_full = (log.len() - new) as u64 >= estimator.window && lasted >= SHORTEST;
                    if is_full {
                        (old, new, began) = (new, log.len(), Some(at));
                    }
                    if (log.len() - old) as u64 >= estimator.needed {
                        known = Some(old..log.len());
                    }
                }
            }
            prop_assert_eq!(estimator.quantile().is_some(), known.is_some());
            if let (Some(estimate), Some(calls)) = (estimator.quantile(), known.clone()) {
                let near = |estimate, exact: Duration| exact.is_zero() && estimate == exact || is_near(estimate, exact);
                let calls = &log[calls];
                let (quantile, median) = (exact(calls.to_vec(), share), exact(calls.to_vec(), 0.5));
                prop_assert!(near(estimate, quantile), "{:?} for {:?}", estimate, quantile);
                prop_assert!(near(estimator.median(), median), "{:?} for {:?}", estimator.median(), median);
            }
        }
    }
}

/// Every call records that it took so long, one each `pause`.
fn feed(estimator: &Estimator, now: &mut Instant, calls: u32, pause: Duration, took: Duration) {
    for _ in 0..calls {
        *now += pause;
        estimator.record(took, *now);
    }
}

#[test]
fn says_nothing_before_it_knows_enough() {
    for (percent, needed) in [(50.0, 10), (95.0, 100), (99.0, 500)] {
        let (estimator, mut now) = (Estimator::new(percent / 100.0, 1), Instant::now());
        feed(&estimator, &mut now, needed - 1, MS, 10 * MS);
        assert_eq!((estimator.quantile(), estimator.median()), (None, Duration::ZERO));
        feed(&estimator, &mut now, 1, MS, 10 * MS);
        assert!(is_near(estimator.quantile().unwrap(), 10 * MS));
    }
}

/// None of them has enough for a turn.
#[test]
fn the_first_percentile_waits_for_no_thread() {
    let (estimator, now) = (Estimator::new(0.95, 16), Instant::now());
    for _ in 0..10 {
        assert_eq!(estimator.quantile(), None);
        thread::scope(|scope| {
            scope.spawn(|| (0..10).for_each(|_| estimator.record(10 * MS, now)));
        });
    }
    assert!(is_near(estimator.quantile().unwrap(), 10 * MS));
}

#[test]
fn forgets_what_was_before_two_windows() {
    let (estimator, mut now) = (Estimator::new(0.95, 1), Instant::now());
    feed(&estimator, &mut now, 20_000, MS, 900 * MS);
    assert!(is_near(estimator.quantile().unwrap(), 900 * MS));
    // A window of at most 5 s and what is left of the one before: 2 x 5000 calls at this rate.
    feed(&estimator, &mut now, 10_100, MS, 10 * MS);
    assert!(is_near(estimator.quantile().unwrap(), 10 * MS), "{:?}", estimator.quantile());
}

#[test]
fn forgets_at_a_low_rate_as_well() {
    let (estimator, mut now) = (Estimator::new(0.95, 1), Instant::now());
    feed(&estimator, &mut now, 2000, SECOND, 900 * MS);
    feed(&estimator, &mut now, 1100, SECOND, 10 * MS);
    assert!(is_near(estimator.quantile().unwrap(), 10 * MS), "{:?}", estimator.quantile());
}

/// 200 ms without answers, at 10,000 calls a second: hedges that adapted to it at once would not help.
#[test]
fn a_short_stall_does_not_become_the_norm() {
    let (estimator, mut now) = (Estimator::new(0.95, 1), Instant::now());
    let pause = Duration::from_micros(100);
    feed(&estimator, &mut now, 300_000, pause, 10 * MS);
    for _ in 0..2000 {
        feed(&estimator, &mut now, 1, pause, 300 * MS);
        assert!(is_near(estimator.quantile().unwrap(), 10 * MS));
    }
}

#[test]
fn calls_that_were_ready_at_once_weigh_as_much_as_others() {
    let (estimator, mut now) = (Estimator::new(0.95, 1), Instant::now());
    for _ in 0..1000 {
        (0..9).for_each(|_| estimator.at_once());
        feed(&estimator, &mut now, 1, MS, 40 * MS);
    }
    assert!(is_near(estimator.quantile().unwrap(), 40 * MS), "one in ten is slow");
    assert_eq!(estimator.median(), Duration::ZERO);
    for _ in 0..10_000 {
        (0..99).for_each(|_| estimator.at_once());
        feed(&estimator, &mut now, 1, MS, 40 * MS);
    }
    assert_eq!(estimator.quantile(), Some(Duration::ZERO), "one in a hundred is");
}

/// Also what it remembers of how many were ready at once.
#[test]
fn renewed_it_is_as_good_as_new() {
    let (estimator, mut now) = (Estimator::new(0.95, 1), Instant::now());
    (0..100_000).for_each(|_| estimator.at_once());
    feed(&estimator, &mut now, 12_000, MS, 10 * MS);
    estimator.renew();
    assert_eq!((estimator.quantile(), estimator.total(), estimator.calls()), (None, 0, 0));
    (0..2000).for_each(|_| estimator.at_once());
    feed(&estimator, &mut now, 96, MS, 10 * MS);
    assert_eq!(estimator.quantile(), Some(Duration::ZERO), "one in twenty-two waits");
}

#[test]
fn many_threads_lose_nothing() {
    let (estimator, now) = (Estimator::new(0.95, 4), Instant::now());
    thread::scope(|scope| {
        for thread in 0..4 {
            let estimator = &estimator;
            scope.spawn(move || {
                for call in 0..10_000 {
                    estimator.at_once();
                    estimator.other();
                    estimator.record((thread * 10 + call % 10) * MS, now);
                }
            });
        }
    });
    assert_eq!((estimator.total(), estimator.calls()), (80_000, 80_000));
    feed(&estimator, &mut { now }, 16, Duration::ZERO, MS);
    // Half were ready at once; of the others a quarter took 30 to 39 ms.
    assert!(is_near(estimator.quantile().unwrap(), 35 * MS), "{:?}", estimator.quantile());
}

#[test]
fn memory_is_small() {
    assert!(size_of::<Estimator>() < 3 * 1024, "{}", size_of::<Estimator>());
    assert_eq!(PLACES, 336);
}
