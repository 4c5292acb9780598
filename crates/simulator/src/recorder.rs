use std::{fmt, sync::Arc, time::Duration};

use crate::{
    Event, Sample, What,
    event::fold,
    nanos::{Nanos, from_duration},
};

/// Kinds of failure that are told apart. What a stack puts into its errors must not grow the report without bound.
const MOST_KINDS: usize = 32;

pub(crate) type OnEvent = Arc<dyn Fn(&Event) + Send + Sync>;

/// Counts what happens, by the interval in which it happened.
pub(crate) struct Recorder {
    pub(crate) samples: Vec<Sample>,
    pub(crate) kinds: Vec<Arc<str>>,
    pub(crate) fingerprint: u64,
    interval: Nanos,
    on_event: Option<OnEvent>,
}

impl Recorder {
    pub(crate) fn new(duration: Duration, interval: Duration, on_event: Option<OnEvent>) -> Self {
        let interval_nanos = from_duration(interval);
        let count = from_duration(duration).div_ceil(interval_nanos);
        let samples =
            (0..count).map(|n| Sample::beginning(Duration::from_nanos(n * interval_nanos))).collect();
        Self { samples, kinds: Vec::new(), fingerprint: 0, interval: interval_nanos, on_event }
    }

    /// One that hears nothing.
    pub(crate) fn silent() -> Self {
        Self { samples: Vec::new(), kinds: Vec::new(), fingerprint: 0, interval: Nanos::MAX, on_event: None }
    }

    pub(crate) fn event(&mut self, now: Nanos, what: What) {
        self.fingerprint = what.words().into_iter().fold(fold(self.fingerprint, now), fold);
        if let Some(on_event) = &self.on_event {
            on_event(&Event { at: Duration::from_nanos(now), what });
        }
    }

    pub(crate) fn called(&mut self, now: Nanos, call: u64, attempt: u32) {
        if let Some(sample) = self.at(now) {
            sample.offered += u64::from(attempt == 0);
            sample.tries += 1;
        }
        self.event(now, What::Called { call, attempt });
    }

    pub(crate) fn attempt(&mut self, now: Nanos) {
        if let Some(sample) = self.at(now) {
            sample.attempts += 1;
        }
    }

    pub(crate) fn wasted(&mut self, now: Nanos) {
        if let Some(sample) = self.at(now) {
            sample.wasted += 1;
        }
    }

    pub(crate) fn answered(&mut self, now: Nanos, call: u64, offered: Nanos) {
        if let Some(sample) = self.at(now) {
            sample.answered += 1;
            sample.latency.add(now - offered);
        }
        if let Some(sample) = self.at(offered) {
            sample.fulfilled += 1;
        }
        self.event(now, What::Answered { call });
    }

    pub(crate) fn failed(&mut self, now: Nanos, call: u64, kind: &str) {
        let number = self.kind(kind);
        if let Some(sample) = self.at(now) {
            if sample.failures.len() <= number {
                sample.failures.resize(number + 1, 0);
            }
            sample.failures[number] += 1;
        }
        let kind = Arc::clone(&self.kinds[number]);
        self.event(now, What::Failed { call, kind });
    }

    fn kind(&mut self, kind: &str) -> usize {
        if let Some(number) = self.kinds.iter().position(|present| **present == *kind) {
            return number;
        }
        if self.kinds.len() > MOST_KINDS {
            return MOST_KINDS;
        }
        self.kinds.push(if self.kinds.len() == MOST_KINDS { "other kinds".into() } else { kind.into() });
        self.kinds.len() - 1
    }

    fn at(&mut self, now: Nanos) -> Option<&mut Sample> {
        self.samples.get_mut((now / self.interval) as usize)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}
