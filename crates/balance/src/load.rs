use std::time::Duration;

use crate::{
    config::{Nanos, nanos},
    sync::{AtomicU64, Relaxed},
};

/// The least that a failure counts for, however fast it came.
const PENALTY: f32 = 1e9;
/// What a failure counts for at most, unless it took longer: else an endpoint would never be tried again.
const HARSHEST: f32 = 3600e9;
/// Samples are averaged over this part of the time in which an estimate that nobody renews fades.
const AVERAGED: f32 = 0.1;
/// Time in the word: 65.5 microseconds, so that it begins anew after 78 hours.
const TICK: u32 = 16;
/// Another thread's clock is ahead by at most so many ticks, somewhat more than a minute. What is further away is the past.
const AHEAD: u32 = 1 << 20;

/// How the estimates of a balancer move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// 1 / ticks.
    fades: f32,
    averages: f32,
}

impl Pace {
    pub(crate) fn new(decay: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let ticks = nanos(decay) as f32 / (1_u64 << TICK) as f32;
        Self { fades: 1.0 / ticks, averages: -1.0 / (ticks * AVERAGED) }
    }
}

/// A latency in nanoseconds, zero where nothing is known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) faded: f32,
    /// As it was when it was measured last.
    pub(crate) measured: f32,
}

/// An endpoint's latency: an average that weighs samples by the time since the one before, and fades while there are none.
///
/// It fades the faster the longer there are none: to a third in the time of the decay, and to less than a ten-thousandth in
/// three times that. By a mere exponential, the worse an estimate is, the longer it lasts: of an endpoint that answers in
/// 0.3 ms and failed, which counts a second or more, nobody would ask for minutes.
///
/// One word: the estimate in nanoseconds as an `f32`, zero where nothing was measured, and when it was made.
#[derive(Debug)]
pub(crate) struct Load(AtomicU64);

impl Load {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// In nanoseconds; zero where nothing is known.
    #[inline]
    pub(crate) fn estimate(&self, now: Nanos, pace: &Pace) -> f32 {
        self.look(now, pace).faded
    }

    #[inline]
    pub(crate) fn look(&self, now: Nanos, pace: &Pace) -> Latency {
        let (measured, then) = unpacked(self.0.load(Relaxed));
        let idle = since(then, now);
        // Nearly always, where there is traffic: then nothing has faded yet.
        if idle < 16.0 {
            return Latency { faded: measured, measured };
        }
        let decays = idle * pace.fades;
        Latency { faded: measured * (-decays * decays).exp(), measured }
    }

    /// An answer took so long.
    #[inline]
    pub(crate) fn record(&self, took: Nanos, now: Nanos, pace: &Pace) {
        self.update(now, pace, |_| sample(took));
    }

    /// A failure took so long. It counts as at least [`PENALTY`], and as more than what it was believed to take: so a
    /// failure never makes an endpoint look better, not even among endpoints that take longer than any penalty.
    #[cold]
    pub(crate) fn punish(&self, took: Nanos, now: Nanos, pace: &Pace) {
        self.update(now, pace, |estimate| {
            sample(took).max(PENALTY.max(4.0 * estimate).min(HARSHEST)).max(estimate)
        });
    }

    /// It has not answered for so long, and nobody waits any more. That tells something only where an answer was expected
    /// sooner, and one of `others`, who take so long, would have given it: else it would be taken to be as fast as it was
    /// given up.
    #[cold]
    pub(crate) fn gave_up(&self, took: Nanos, now: Nanos, pace: &Pace, others: impl FnOnce() -> Option<f32>) {
        let Latency { faded, measured } = self.look(now, pace);
        let took = sample(took);
        if took > faded {
            let expected = others().unwrap_or(measured);
            if expected > 0.0 && took > expected {
                self.update(now, pace, |_| took);
            }
        }
    }

    /// Knows nothing again.
    pub(crate) fn forget(&self) {
        self.0.store(0, Relaxed);
    }

    /// Knows what the other does.
    pub(crate) fn inherit(&self, other: &Self) {
        self.0.store(other.0.load(Relaxed), Relaxed);
    }

    #[inline]
    fn update(&self, now: Nanos, pace: &Pace, sample: impl Fn(f32) -> f32) {
        let mut word = self.0.load(Relaxed);
        loop {
            let (estimate, then) = unpacked(word);
            let new = if estimate == 0.0 {
                sample(estimate)
            } else {
                let passed = since(then, now);
                if passed == 0.0 {
                    // It would weigh nothing.
                    return;
                }
                let kept = (passed * pace.averages).exp();
                let sample = sample(estimate);
                sample + (estimate - sample) * kept
            };
            match self.0.compare_exchange_weak(word, packed(new, now), Relaxed, Relaxed) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn sample(took: Nanos) -> f32 {
    took.max(1) as f32
}

#[expect(clippy::cast_possible_truncation, reason = "the time wraps around")]
fn packed(estimate: f32, now: Nanos) -> u64 {
    u64::from(estimate.to_bits()) << 32 | u64::from((now >> TICK) as u32)
}

#[expect(clippy::cast_possible_truncation, reason = "two halves of a word")]
fn unpacked(word: u64) -> (f32, u32) {
    (f32::from_bits((word >> 32) as u32), word as u32)
}

/// Ticks from then to now; none where another thread's clock was ahead.
#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "the time wraps around")]
fn since(then: u32, now: Nanos) -> f32 {
    let passed = ((now >> TICK) as u32).wrapping_sub(then);
    if passed > u32::MAX - AHEAD { 0.0 } else { passed as f32 }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Nanos = 1_000_000;

    fn pace() -> Pace {
        Pace::new(Duration::from_secs(10))
    }

    #[test]
    fn it_follows_within_seconds_and_fades_where_nobody_asks() {
        let (load, pace) = (Load::new(), pace());
        assert_eq!(load.estimate(0, &pace), 0.0);
        load.record(10 * MS, 0, &pace);
        assert_eq!(load.estimate(0, &pace), 10e6);
        let mut now = 0;
        for _ in 0..300 {
            now += 10 * MS;
            load.record(100 * MS, now, &pace);
        }
        assert!((95e6..100e6).contains(&load.estimate(now, &pace)), "{}", load.estimate(now, &pace));
        for (decays, expected) in [(1, 0.3679), (2, 0.0183), (3, 0.0001)] {
            let later = now + decays * 10_000 * MS;
            let faded = load.estimate(later, &pace) / load.estimate(now, &pace);
            assert!((faded - expected).abs() < 1e-3, "{faded}");
        }
    }

    /// One call in two hundred that takes twenty times as long must not be taken for what calls take.
    #[test]
    fn it_is_the_mean_and_not_the_worst() {
        let (load, pace) = (Load::new(), pace());
        let mut highest = 0.0_f32;
        for call in 1..20_000_u64 {
            let took = if call.is_multiple_of(200) { 20 * MS } else { MS };
            load.record(took, call * MS / 3, &pace);
            highest = highest.max(load.estimate(call * MS / 3, &pace));
        }
        assert!(highest < 1.3e6, "{highest}");
    }

    /// The time in the word begins anew after 78 hours: it must not stand still for the second half of them.
    #[test]
    fn it_fades_and_follows_after_any_pause() {
        const HOUR: Nanos = 3_600_000 * MS;
        for hours in [1, 30, 40, 60, 77, 79, 120, 1_000] {
            let (load, pace, now) = (Load::new(), pace(), hours * HOUR);
            load.record(1_000 * MS, 0, &pace);
            if hours < 78 {
                assert!(load.estimate(now, &pace) < 1.0, "after {hours} hours");
            }
            for call in 1..=2_000 {
                load.record(MS, now + call * 10 * MS, &pace);
            }
            let estimate = load.estimate(now + 20_000 * MS, &pace);
            assert!((0.9e6..1.1e6).contains(&estimate), "{estimate} after {hours} hours");
        }
    }

    #[test]
    fn a_call_that_was_given_up_tells_only_that_it_takes_longer_than_others() {
        let (load, pace) = (Load::new(), pace());
        load.gave_up(MS, 0, &pace, || None);
        load.gave_up(MS, 0, &pace, || Some(2e6));
        assert_eq!(load.estimate(0, &pace), 0.0);
        load.gave_up(30_000 * MS, 0, &pace, || Some(2e6));
        assert_eq!(load.estimate(0, &pace), 30e9);
        // What has faded is not believed anew because somebody was impatient.
        let later = 60_000 * MS;
        load.gave_up(MS, later, &pace, || Some(2e6));
        assert!(load.estimate(later, &pace) < 1e6);
        load.gave_up(3 * MS, later, &pace, || Some(2e6));
        assert!((2.9e6..3.1e6).contains(&load.estimate(later, &pace)));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Record(Nanos),
        Punish(Nanos),
        GaveUp(Nanos),
    }

    fn steps() -> impl Strategy<Value = Vec<(Nanos, Step)>> {
        let took = || 0..10_000 * MS;
        let step = prop_oneof![
            took().prop_map(Step::Record),
            took().prop_map(Step::Punish),
            took().prop_map(Step::GaveUp)
        ];
        prop::collection::vec((0..20_000 * MS, step), 1..60)
    }

    proptest! {
        /// Against plain numbers, and: it stays between the least and the largest sample; no failure and no call that was
        /// given up makes an endpoint look better.
        #[test]
        fn it_is_the_average_that_it_says(steps in steps()) {
            let (load, pace) = (Load::new(), pace());
            let mut now: Nanos = 0;
            let mut model: Option<(f64, u64)> = None;
            let mut bounds = (f64::MAX, 0.0_f64);
            for (pause, step) in steps {
                now += pause;
                let tick = now >> TICK;
                let known = model.map_or(0.0, |(estimate, _)| estimate);
                let sample = match step {
                    Step::Record(took) => took.max(1) as f64,
                    Step::Punish(took) => (took.max(1) as f64).max((4.0 * known).clamp(1e9, 3600e9)).max(known),
                    Step::GaveUp(took) => took as f64,
                };
                let tells = !matches!(step, Step::GaveUp(_)) || known > 0.0 && sample > known;
                let before = load.estimate(0, &pace);
                match step {
                    Step::Record(took) => load.record(took, now, &pace),
                    Step::Punish(took) => load.punish(took, now, &pace),
                    Step::GaveUp(took) => load.gave_up(took, now, &pace, || None),
                }
                if !tells {
                    prop_assert_eq!(load.estimate(0, &pace), before);
                    continue;
                }
                model = Some(match model {
                    None => (sample, tick),
                    Some((estimate, then)) if then == tick => (estimate, then),
                    Some((estimate, then)) => {
                        let seconds = ((tick - then) << TICK) as f64 / 1e9;
                        let kept = (-seconds).exp();
                        (estimate * kept + sample * (1.0 - kept), tick)
                    }
                });
                bounds = (bounds.0.min(sample), bounds.1.max(sample));
                let (is, expected) = (f64::from(load.estimate(now, &pace)), model.unwrap().0);
                prop_assert!((is - expected).abs() <= expected * 1e-3, "{is} instead of {expected}");
                prop_assert!(is >= bounds.0 * 0.999 && is <= bounds.1 * 1.001);
                if !matches!(step, Step::Record(_)) {
                    prop_assert!(f64::from(load.estimate(now, &pace)) >= f64::from(before) * 0.999 || before == 0.0);
                }
            }
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod models {
    use loom::{sync::Arc, thread};

    use super::*;

    /// Of two samples none is lost: the outcome is that of one order or the other.
    #[test]
    fn loom_every_sample_counts() {
        loom::model(|| {
            const SECOND: Nanos = 1_000_000_000;
            let pace = Pace::new(Duration::from_secs(10));
            let one = |load: &Load| load.record(SECOND, SECOND, &pace);
            let other = |load: &Load| load.record(3 * SECOND, 2 * SECOND, &pace);
            let fresh = || {
                let load = Load::new();
                load.record(2 * SECOND, 0, &pace);
                load
            };
            let expected: Vec<u64> = [true, false]
                .map(|first| {
                    let load = fresh();
                    if first {
                        (one(&load), other(&load))
                    } else {
                        (other(&load), one(&load))
                    };
                    load.0.load(Relaxed)
                })
                .to_vec();

            let load = Arc::new(fresh());
            let theirs = Arc::clone(&load);
            let there = thread::spawn(move || theirs.record(3 * SECOND, 2 * SECOND, &pace));
            one(&load);
            there.join().unwrap();
            let is = load.0.load(Relaxed);
            assert!(expected.contains(&is), "{is:x} is none of {expected:x?}");
        });
    }
}
