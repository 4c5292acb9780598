use std::time::Duration;

use super::{Adaptive, Algorithm, gradient::Gradient2, vegas::Vegas};

/// What the calls of one window say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// Calls that succeeded, of those that had to wait for the backend.
    pub(crate) good: u64,
    /// Calls that failed, were throttled, or hung.
    pub(crate) bad: u64,
    /// The mean of the good ones; zero where there were none.
    pub(crate) latency: Duration,
    /// The most calls that were seen in flight at once.
    pub(crate) in_flight: u32,
}

impl Sample {
    /// One bad call in fifty is noise: with many calls in a window, nearly every window has one.
    const fn is_bad(&self) -> bool {
        self.bad > 0 && self.bad * 50 >= self.good + self.bad
    }
}

/// The limit as it follows from one window after the other: no clock, no atomics.
#[derive(Debug)]
pub(crate) struct Machine {
    adaptive: Adaptive,
    law: Law,
    estimate: f64,
    /// The most calls in flight, slowly forgotten.
    peak: f64,
    /// The limit that somebody vouched for: it holds without having been used.
    vouched: f64,
}

/// How the limit goes on where nothing was bad.
#[derive(Debug)]
enum Law {
    Aimd,
    Gradient2(Gradient2),
    Vegas(Vegas),
}

/// What is left of a peak after a window: a half after 14.
const KEPT: f64 = 0.95;

/// How many times the peak a limit may be that nobody vouched for.
const ROOM: f64 = 5.0;

impl Machine {
    pub(crate) fn new(adaptive: Adaptive) -> Self {
        let law = match adaptive.algorithm {
            Algorithm::Aimd => Law::Aimd,
            Algorithm::Gradient2 => Law::Gradient2(Gradient2::new(adaptive.window)),
            Algorithm::Vegas => Law::Vegas(Vegas::default()),
        };
        let initial = f64::from(adaptive.initial);
        Self { adaptive, law, estimate: initial, peak: 0.0, vouched: initial }
    }

    /// The limit now.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to a million")]
    pub(crate) const fn limit(&self) -> u32 {
        self.estimate as u32
    }

    /// Goes on from there, which somebody vouches for.
    pub(crate) fn set(&mut self, limit: u32) {
        self.estimate = f64::from(limit);
        self.vouched = self.estimate;
    }

    /// The limit after one more window.
    ///
    /// A bad window shrinks it. A good one moves it only where at least half of it was in use: else nothing is known
    /// about what the backend could take. Whatever happened, what nobody vouched for is at most five times the peak.
    pub(crate) fn update(&mut self, sample: &Sample) -> u32 {
        let in_flight = f64::from(sample.in_flight);
        self.peak = in_flight.max(self.peak * KEPT);
        // The averages go on, whatever becomes of the limit.
        let latency = sample.latency.as_secs_f64().max(1e-9);
        let proposed = match &mut self.law {
            Law::Aimd => self.estimate + 1.0,
            _ if sample.good == 0 => self.estimate,
            Law::Gradient2(gradient) => gradient.propose(self.estimate, latency),
            Law::Vegas(vegas) => vegas.propose(self.estimate, latency),
        };
        let next = if sample.is_bad() {
            (self.estimate * self.adaptive.backoff_ratio).floor()
        } else if 2 * sample.in_flight >= self.limit() {
            proposed
        } else {
            self.estimate
        };
        let justified = self.vouched.max(ROOM * self.peak);
        self.estimate = next.min(justified).clamp(f64::from(self.adaptive.min), f64::from(self.adaptive.max));
        self.limit()
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const ALGORITHMS: [fn() -> Adaptive; 3] = [Adaptive::aimd, Adaptive::gradient2, Adaptive::vegas];

    fn good(latency: Duration, in_flight: u32) -> Sample {
        Sample { good: 20, bad: 0, latency, in_flight }
    }

    fn bad(in_flight: u32) -> Sample {
        Sample { good: 0, bad: 20, latency: Duration::ZERO, in_flight }
    }

    fn sample() -> impl Strategy<Value = Sample> {
        (0..100_u64, 0..10_u64, 0..2_000_u64, 0..500_u32).prop_map(|(good, bad, ms, in_flight)| Sample {
            good,
            bad,
            latency: Duration::from_millis(if good > 0 { ms } else { 0 }),
            in_flight,
        })
    }

    proptest! {
        #[test]
        fn aimd_does_what_whole_numbers_do(samples in prop::collection::vec(sample(), 0..200)) {
            // Half and three quarters are exact in floats.
            let adaptive = Adaptive::aimd().with_limits(2, 20, 90).unwrap().with_backoff_ratio(0.75).unwrap();
            let mut machine = Machine::new(adaptive);
            let (mut limit, mut peak) = (20_u64, 0.0_f64);
            for sample in samples {
                if sample.bad > 0 && sample.bad as f64 / (sample.good + sample.bad) as f64 >= 0.02 {
                    limit = limit * 3 / 4;
                } else if u64::from(sample.in_flight) >= limit.div_ceil(2) {
                    limit += 1;
                }
                peak = f64::from(sample.in_flight).max(peak * 0.95);
                let room = (5.0 * peak).max(20.0);
                // The bound is the only thing that is not whole.
                if limit as f64 > room {
                    return Ok(());
                }
                limit = limit.clamp(2, 90);
                prop_assert_eq!(u64::from(machine.update(&sample)), limit);
            }
        }

        #[test]
        fn the_limit_keeps_its_bounds_whatever_it_is_told(
            which in 0..3_usize,
            min in 1..50_u32,
            span in 0..200_u32,
            samples in prop::collection::vec(sample(), 0..200),
        ) {
            let adaptive = ALGORITHMS[which]().with_limits(min, min + span / 2, min + span).unwrap();
            let mut machine = Machine::new(adaptive);
            for sample in samples {
                let before = machine.limit();
                let after = machine.update(&sample);
                prop_assert!((min..=min + span).contains(&after));
                prop_assert!(!sample.is_bad() || after <= before, "a bad window never grows it");
                let unused = 2 * sample.in_flight < before;
                prop_assert!(!unused || after <= before, "an unused limit never grows");
                let peak = machine.peak;
                prop_assert!(f64::from(after) <= (5.0 * peak).max(f64::from(adaptive.initial)));
            }
        }

        #[test]
        fn slower_never_means_more(which in 1..3_usize, limit in 5..200_u32, latency in 1..500_u64, more in 1..500_u64) {
            let after = |ms: u64| {
                let mut machine = Machine::new(ALGORITHMS[which]().with_limits(1, limit, 1_000).unwrap());
                for _ in 0..20 {
                    machine.update(&good(Duration::from_millis(latency), 1));
                }
                machine.update(&good(Duration::from_millis(ms), limit))
            };
            prop_assert!(after(latency + more) <= after(latency));
        }
    }

    #[test]
    fn regression_29_a_timeout_shrinks_it_and_nothing_unused_grows() {
        for algorithm in ALGORITHMS {
            let mut machine = Machine::new(algorithm());
            for _ in 0..2000 {
                assert_eq!(machine.update(&good(10 * MS, 1)), 20, "one call at a time");
            }
            let before = machine.limit();
            assert!(machine.update(&Sample { good: 9, bad: 1, latency: 10 * MS, in_flight: 20 }) < before);
            for _ in 0..200 {
                machine.update(&bad(20));
            }
            assert_eq!(machine.limit(), 1);
        }
    }

    #[test]
    fn a_full_limit_grows_while_the_latency_is_good_and_comes_back_when_it_is_no_longer_used() {
        for algorithm in ALGORITHMS {
            let mut machine = Machine::new(algorithm());
            for _ in 0..1000 {
                let limit = machine.limit();
                machine.update(&good(10 * MS, limit));
            }
            assert_eq!(machine.limit(), machine.adaptive.max);
            for _ in 0..1000 {
                machine.update(&good(10 * MS, 8));
            }
            assert_eq!(machine.limit(), 40, "five times the peak");
        }
    }

    /// A backend that works on so many calls at once and lets the others queue. Returns the limit in the end.
    fn against(adaptive: Adaptive, capacity: u32, windows: u32) -> u32 {
        let mut machine = Machine::new(adaptive);
        for _ in 0..windows {
            let limit = machine.limit();
            let latency = 10 * MS * limit.max(capacity) / capacity;
            machine.update(&good(latency, limit));
        }
        machine.limit()
    }

    #[test]
    fn they_find_what_a_queueing_backend_can_take() {
        // 1.5 times the long average, which follows a little.
        let gradient = against(Adaptive::gradient2(), 40, 600);
        assert!((40..=120).contains(&gradient), "{gradient}");
        let vegas = against(Adaptive::vegas(), 40, 1000);
        assert!((40..=55).contains(&vegas), "{vegas}");
    }

    #[test]
    fn windows_without_a_success_have_no_latency() {
        for algorithm in [Adaptive::gradient2, Adaptive::vegas] {
            let mut machine = Machine::new(algorithm());
            for _ in 0..20 {
                machine.update(&good(10 * MS, 20));
            }
            for _ in 0..60 {
                machine.update(&bad(20));
            }
            machine.set(50);
            assert!(machine.update(&good(10 * MS, 50)) >= 50, "as good as it ever was: {:?}", algorithm());
        }
    }

    #[test]
    fn half_of_a_peak_is_forgotten_after_14_windows() {
        let mut machine = Machine::new(Adaptive::aimd());
        machine.update(&good(10 * MS, 100));
        for _ in 0..14 {
            machine.update(&good(10 * MS, 1));
        }
        assert!((48.0..50.0).contains(&machine.peak), "{}", machine.peak);
    }

    #[test]
    fn a_limit_that_is_set_is_vouched_for() {
        let mut machine = Machine::new(Adaptive::aimd());
        machine.set(100);
        assert_eq!(machine.update(&good(10 * MS, 1)), 100);
        assert_eq!(machine.update(&bad(1)), 90);
    }
}
