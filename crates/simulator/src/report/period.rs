use std::time::Duration;

use super::{Report, Sample, sample::share};
use crate::sketch::Sketch;

/// The figures of some time: made by [`Report::during`].
#[derive(Debug, Clone, Copy)]
pub struct Period<'a> {
    pub(super) report: &'a Report,
    pub(super) samples: &'a [Sample],
}

impl<'a> Period<'a> {
    /// The samples.
    #[must_use]
    pub fn samples(&self) -> &'a [Sample] {
        self.samples
    }

    /// How long it is.
    #[must_use]
    pub fn length(&self) -> Duration {
        let Some((first, last)) = self.samples.first().zip(self.samples.last()) else {
            return Duration::ZERO;
        };
        (last.from + self.report.interval).min(self.report.duration) - first.from
    }

    fn sum(&self, field: impl Fn(&Sample) -> u64) -> u64 {
        self.samples.iter().map(field).sum()
    }

    /// Calls that began.
    #[must_use]
    pub fn offered(&self) -> u64 {
        self.sum(|sample| sample.offered)
    }

    /// Tries of callers.
    #[must_use]
    pub fn tries(&self) -> u64 {
        self.sum(|sample| sample.tries)
    }

    /// Calls that came to the backends.
    #[must_use]
    pub fn attempts(&self) -> u64 {
        self.sum(|sample| sample.attempts)
    }

    /// Calls that were answered in time.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.sum(|sample| sample.answered)
    }

    /// Calls that the backends served for nobody.
    #[must_use]
    pub fn wasted(&self) -> u64 {
        self.sum(|sample| sample.wasted)
    }

    /// Calls answered in time, a second.
    #[must_use]
    pub fn goodput(&self) -> f64 {
        let seconds = self.length().as_secs_f64();
        if seconds == 0.0 { 0.0 } else { self.answered() as f64 / seconds }
    }

    /// Which share of the calls that began here were answered in time, whenever that was; 1 where none began.
    #[must_use]
    pub fn share(&self) -> f64 {
        share(self.sum(|sample| sample.fulfilled), self.offered())
    }

    /// How many calls came to the backends for each that was offered; 0 where none was.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        match self.offered() {
            0 => 0.0,
            offered => self.attempts() as f64 / offered as f64,
        }
    }

    /// How many tries failed, by kind; without the kinds that did not come.
    pub fn failures(&self) -> impl Iterator<Item = (&'a str, u64)> + use<'a> {
        let Self { report, samples } = *self;
        report.kinds.iter().enumerate().filter_map(move |(number, kind)| {
            let count: u64 = samples.iter().filter_map(|sample| sample.failures.get(number)).sum();
            (count > 0).then_some((&**kind, count))
        })
    }

    /// How many tries failed in this way: `timed_out`, `circuit_open`, `queue_full`, `out_of_patience`, ...
    #[must_use]
    pub fn failures_of(&self, kind: &str) -> u64 {
        self.failures().find(|&(present, _)| present == kind).map_or(0, |(_, count)| count)
    }

    /// How long this share of the calls answered in time took at most, from their first try on; within 2 %. `None` where
    /// none was answered.
    #[must_use]
    pub fn latency(&self, share: f64) -> Option<Duration> {
        let mut all = Sketch::default();
        self.samples.iter().for_each(|sample| all.merge(&sample.latency));
        all.quantile(share)
    }

    /// The most that were in the backends at one time.
    #[must_use]
    pub fn peak_in_flight(&self) -> usize {
        self.samples.iter().map(|sample| sample.in_flight).max().unwrap_or(0)
    }

    /// The longest that the backends' queues were.
    #[must_use]
    pub fn peak_queue(&self) -> usize {
        self.samples.iter().map(|sample| sample.queue).max().unwrap_or(0)
    }
}
