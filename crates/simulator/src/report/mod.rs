mod assertions;
mod chart;
mod figures;
mod period;
mod sample;

use std::{fmt, ops::RangeBounds, sync::Arc, time::Duration};

pub use self::{figures::BackendFigures, period::Period, sample::Sample};
use crate::{backend::Span, nanos::from_duration, state::State};

/// Samples that are looked at together.
const WINDOW: usize = 5;

/// What happened in a simulation.
///
/// Two reports of one seed are equal. A report displays as its [`chart`](Self::chart) with a summary.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    seed: u64,
    duration: Duration,
    interval: Duration,
    replay: String,
    samples: Vec<Sample>,
    kinds: Vec<Arc<str>>,
    gauges: Vec<String>,
    backends: Vec<BackendFigures>,
    ended: Duration,
    fingerprint: u64,
}

impl Report {
    pub(crate) fn new(
        seed: u64,
        duration: Duration,
        interval: Duration,
        replay: String,
        gauges: Vec<String>,
        state: &mut State,
    ) -> Self {
        // What is dropped with the runtime is no event of the run.
        let recorder = state.take_recorder();
        Self {
            seed,
            duration,
            interval,
            replay,
            samples: recorder.samples,
            kinds: recorder.kinds,
            gauges,
            backends: state.backend_figures(),
            ended: state.now(),
            fingerprint: recorder.fingerprint,
        }
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// When the last call had ended: not before the length of the simulation.
    #[must_use]
    pub fn ended(&self) -> Duration {
        self.ended
    }

    /// A digest of all events in their order, with their times to the nanosecond. Equal runs have equal ones.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// One interval after another.
    #[must_use]
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The figures of the samples that begin within the range of virtual time.
    #[must_use]
    pub fn during(&self, range: impl RangeBounds<Duration>) -> Period<'_> {
        let span = Span::of(&range);
        let from = self.samples.partition_point(|sample| from_duration(sample.from) < span.from);
        let until = self.samples.partition_point(|sample| from_duration(sample.from) < span.until);
        Period { report: self, samples: &self.samples[from..until.max(from)] }
    }

    /// The backends, in the order in which the [`World`](crate::World) made them.
    #[must_use]
    pub fn backends(&self) -> &[BackendFigures] {
        &self.backends
    }

    /// The values of a gauge, one for each sample; empty where there is none of that name.
    pub fn gauge(&self, name: &str) -> impl Iterator<Item = f64> + '_ {
        let number = self.gauges.iter().position(|present| present == name);
        let samples = if number.is_some() { &*self.samples } else { &[] };
        samples.iter().filter_map(move |sample| sample.gauges.get(number?).copied())
    }

    /// How long it took after a moment, such as the end of an overload, until calls were answered again for good: until
    /// the first sample from which on, to the end of the simulation, of the calls that began in any five samples in a row
    /// at least this share was answered in time. `None` where that never came.
    ///
    /// Five, since also a stack in good health refuses some calls when by chance many come within one second.
    #[must_use]
    pub fn recovery(&self, after: Duration, share: f64) -> Option<Duration> {
        let begins = self.samples.partition_point(|sample| sample.from + self.interval <= after);
        let samples = &self.samples[begins..];
        let windows = samples.windows(WINDOW.min(samples.len()).max(1));
        let good =
            windows.rev().take_while(|window| Period { report: self, samples: window }.share() >= share);
        let first = good.last()?.first()?;
        Some(first.from.saturating_sub(after))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.chart())?;
        let all = self.during(..);
        write!(
            f,
            "{} calls, {:.1} % answered in time; {:.2} attempts a call",
            all.offered(),
            100.0 * all.share(),
            all.amplification()
        )?;
        if let (Some(p50), Some(p99)) = (all.latency(0.5), all.latency(0.99)) {
            write!(f, "; p50 {p50:.1?}, p99 {p99:.1?}")?;
        }
        for (kind, count) in all.failures() {
            write!(f, "; {kind} {count}")?;
        }
        writeln!(f, "; seed {}", self.seed)
    }
}
