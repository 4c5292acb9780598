use std::time::Duration;

use crate::sketch::Sketch;

/// What happened in one interval.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Sample {
    /// When the interval began.
    pub from: Duration,
    /// Calls that began.
    pub offered: u64,
    /// Tries of callers: the calls that began, and their repetitions by callers.
    pub tries: u64,
    /// Calls that came to the backends, layers' retries included.
    pub attempts: u64,
    /// Calls that were answered in time: the goodput, whenever they began.
    pub answered: u64,
    /// Of the calls that began here, those that were answered in time, whenever that was.
    pub fulfilled: u64,
    /// Calls that the backends served for nobody.
    pub wasted: u64,
    /// The longest that the backends' queues were, added up.
    pub queue: usize,
    /// The most that were in the backends, served or queued, added up.
    pub in_flight: usize,
    /// The values of the gauges at the end.
    pub gauges: Vec<f64>,
    /// By the number of their kind.
    pub(crate) failures: Vec<u64>,
    pub(crate) latency: Sketch,
}

impl Sample {
    pub(crate) fn beginning(from: Duration) -> Self {
        Self {
            from,
            offered: 0,
            tries: 0,
            attempts: 0,
            answered: 0,
            fulfilled: 0,
            wasted: 0,
            queue: 0,
            in_flight: 0,
            gauges: Vec::new(),
            failures: Vec::new(),
            latency: Sketch::default(),
        }
    }

    /// Which share of the calls that began here were answered in time; 1 where none began.
    #[must_use]
    pub fn share(&self) -> f64 {
        share(self.fulfilled, self.offered)
    }
}

pub(super) fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}
