//! What a fault did to the clients, and how soon it was over.

use std::time::Duration;

use crate::{
    configuration::RATE_PERIOD_MS,
    sample::{Class, Outcome, Sample, failed, p99},
    schedule::{Part, Planned},
};

/// By then all is as it was.
pub(crate) const RECOVERY: Duration = Duration::from_secs(5);
/// So many times the percentile of before is as it was. Of a hundred reads a second it is the second slowest.
pub(crate) const FACTOR: u32 = 3;
/// Or below that: a busy machine holds up a read for so long by itself.
pub(crate) const FLOOR: Duration = Duration::from_millis(100);
/// In which a recovery is seen.
const WINDOW: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);
/// What is taken as before.
const BEFORE: Duration = Duration::from_secs(3);

/// A fault that was.
#[derive(Debug, Clone)]
pub(crate) struct Happened {
    pub(crate) planned: Planned,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    /// What went otherwise than it should.
    pub(crate) wrong: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effect {
    pub(crate) failed: usize,
    pub(crate) before: Option<Duration>,
    pub(crate) during: Option<Duration>,
    pub(crate) after: Option<Duration>,
    /// From the end of the fault until reads are as fast as before, and nothing fails. None: not by the end of what is known.
    pub(crate) recovered: Option<Duration>,
}

impl Happened {
    /// Whether a request at that time may fail for it.
    fn excuses(&self, sample: &Sample) -> bool {
        self.planned.kind.may_fail_requests() && sample.at < self.until + RECOVERY && sample.end() > self.from
    }

    /// Whether any request that needs the part shows that it happened. Of what is there to be done without, or is over at once,
    /// that is not known, and it counts as noticed.
    pub(crate) fn is_noticed(&self, samples: &[Sample]) -> bool {
        let needs: fn(Class) -> bool = match self.planned.kind.part() {
            Part::Postgres => |class| class == Class::Order,
            Part::Upstream => |class| matches!(class, Class::Profile | Class::Burst),
            Part::Redis | Part::Worker | Part::Configuration | Part::Network => return true,
        };
        let least = self.planned.delay.unwrap_or(FLOOR);
        let meanwhile = |sample: &&Sample| sample.at < self.until && sample.end() > self.from;
        let mut asked = samples.iter().filter(|sample| needs(sample.class)).filter(meanwhile);
        asked.any(|sample| sample.is_failed() || sample.took >= least)
    }

    /// By samples in the order of their ends, and without what is the next fault's.
    pub(crate) fn effect(&self, samples: &[Sample], next: Duration) -> Effect {
        let p99 = |from, until| p99(between(samples, from, until), from, until);
        let failed = |from, until| failed(between(samples, from, until), from, until);
        let before = p99(self.from.saturating_sub(BEFORE), self.from);
        let limit = before.map_or(FLOOR, |before| (before * FACTOR).max(FLOOR));
        let is_well = |at: &Duration| {
            failed(*at, *at + WINDOW) == 0 && p99(*at, *at + WINDOW).is_some_and(|p99| p99 <= limit)
        };
        let last = RECOVERY.as_millis() / STEP.as_millis() + 20;
        let mut steps = (0..=u32::try_from(last).unwrap_or(0)).map(|step| self.until + STEP * step);
        let recovered = steps.find(is_well).map(|at| at - self.until);
        let well = self.until + recovered.unwrap_or(RECOVERY);
        Effect {
            failed: failed(self.from, next.min(self.until + RECOVERY)),
            before,
            during: p99(self.from, self.until),
            after: p99(well, well + WINDOW),
            recovered,
        }
    }
}

/// The effects of all of them.
pub(crate) fn effects(faults: &[Happened], samples: &[Sample]) -> Vec<Effect> {
    let nexts = faults.iter().skip(1).map(|next| next.from).chain([Duration::MAX]);
    faults.iter().zip(nexts).map(|(fault, next)| fault.effect(samples, next)).collect()
}

/// Those that ended in that time.
fn between(samples: &[Sample], from: Duration, until: Duration) -> &[Sample] {
    let place = |time| samples.partition_point(|sample| sample.end() < time);
    &samples[place(from)..place(until)]
}

/// What failed although nothing was wrong. That a limit refuses what comes with a burst is right, and wrong at other times.
pub(crate) fn unexcused<'a>(
    samples: &'a [Sample],
    faults: &[Happened],
    bursts: &[Duration],
) -> Vec<&'a Sample> {
    let is_of_burst = |sample: &Sample| {
        let over = Duration::from_millis(RATE_PERIOD_MS) + WINDOW;
        sample.class == Class::Burst
            || bursts.iter().any(|&burst| sample.at < burst + over && sample.end() >= burst)
    };
    let is_wrong = |sample: &Sample| match sample.outcome {
        Outcome::Good => false,
        Outcome::Limited => !is_of_burst(sample),
        Outcome::Failed(_) | Outcome::Hung => true,
    };
    let is_excused = |sample: &Sample| faults.iter().any(|fault| fault.excuses(sample));
    samples.iter().filter(|sample| is_wrong(sample) && !is_excused(sample)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sample::tests::read, schedule::Kind};

    const NEVER: Duration = Duration::MAX;

    fn fault(kind: Kind) -> Happened {
        let lasts = Duration::from_secs(2);
        let planned = Planned { at: Duration::ZERO, kind, lasts, delay: None, pick: 0 };
        Happened { planned, from: Duration::from_secs(10), until: Duration::from_secs(12), wrong: None }
    }

    /// A read each 10 ms for 20 s, slow in that time.
    fn samples(slow: std::ops::Range<u64>) -> Vec<Sample> {
        let took = |at| if slow.contains(&at) { 400 } else { 5 };
        let mut samples: Vec<_> = (0..2_000).map(|n| read(n * 10, took(n * 10))).collect();
        samples.sort_by_key(Sample::end);
        samples
    }

    #[test]
    fn a_recovery_is_as_long_as_reads_are_slow() {
        let effect = fault(Kind::PostgresSlow).effect(&samples(10_000..13_500), NEVER);
        let recovered = effect.recovered.unwrap();
        let expected = Duration::from_millis(1_800)..Duration::from_millis(2_100);
        assert!(expected.contains(&recovered), "{effect:?}");
        assert_eq!(effect.before, Some(Duration::from_millis(5)));
        assert_eq!(effect.during, Some(Duration::from_millis(400)));
        assert_eq!((effect.after, effect.failed), (Some(Duration::from_millis(5)), 0));
        let at_once = fault(Kind::PostgresSlow).effect(&samples(0..0), NEVER);
        assert_eq!(at_once.recovered, Some(Duration::ZERO));
    }

    #[test]
    fn what_stays_slow_or_failing_has_not_recovered() {
        assert_eq!(fault(Kind::PostgresSlow).effect(&samples(10_000..20_000), NEVER).recovered, None);
        let mut failing = samples(0..0);
        for sample in failing.iter_mut().filter(|sample| sample.at > Duration::from_secs(11)).step_by(50) {
            sample.outcome = Outcome::Failed(503);
        }
        let effect = fault(Kind::PostgresSlow).effect(&failing, NEVER);
        assert_eq!((effect.recovered, effect.failed), (None, 12));
        let next = Duration::from_secs(13);
        assert_eq!(fault(Kind::PostgresSlow).effect(&failing, next).failed, 4);
    }

    #[test]
    fn a_fault_is_noticed_by_who_needs_the_part() {
        let quick = samples(0..0);
        assert!(fault(Kind::RedisFrozen).is_noticed(&quick), "reads do without it");
        for (kind, class) in [(Kind::PostgresFrozen, Class::Order), (Kind::UpstreamErrors, Class::Profile)] {
            let is_noticed = |sample: Sample| fault(kind).is_noticed(&[&quick[..], &[sample]].concat());
            assert!(!fault(kind).is_noticed(&quick));
            let failed = Sample { class, outcome: Outcome::Failed(503), ..read(11_000, 1) };
            assert!(is_noticed(failed) && is_noticed(Sample { class, ..read(9_950, 100) }));
            assert!(!is_noticed(Sample { class, ..read(11_000, 99) }), "as ever");
            assert!(!is_noticed(Sample { class: Class::User, ..failed }), "it needs neither");
            let later = Sample { at: Duration::from_secs(12), ..failed };
            assert!(!is_noticed(later) && !is_noticed(Sample { outcome: Outcome::Limited, ..failed }));
        }
    }

    #[test]
    fn failures_are_excused_by_a_fault_and_its_recovery_alone() {
        let at = |seconds: u64| Sample { outcome: Outcome::Failed(503), ..read(seconds * 1_000, 1) };
        let samples = [at(9), at(10), at(16), at(18)];
        let times = |kind| {
            let unexcused = unexcused(&samples, &[fault(kind)], &[]);
            unexcused.iter().map(|sample| sample.at.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(times(Kind::RedisKilled), [9, 18]);
        assert_eq!(times(Kind::RightReload), [9, 10, 16, 18], "a reload excuses nothing");
    }

    #[test]
    fn limits_refuse_in_a_burst_alone() {
        let limited = Sample { outcome: Outcome::Limited, class: Class::Profile, ..read(5_000, 1) };
        let burst = Sample { class: Class::Burst, ..limited };
        let unexcused = |bursts: &[Duration]| unexcused(&[limited, burst], &[], bursts).len();
        assert_eq!(unexcused(&[Duration::from_secs(4)]), 0);
        assert_eq!(unexcused(&[Duration::from_secs(6)]), 1);
        assert_eq!(unexcused(&[Duration::from_secs(1)]), 1);
    }
}
