use std::time::Duration;

use crate::{
    backend::{Figures, Server},
    nanos::{Nanos, to_secs},
};

/// What one backend did, from the beginning of the run until the last call had ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct BackendFigures {
    /// Its name.
    pub name: String,
    /// How many calls came.
    pub attempts: u64,
    /// How many were served.
    pub served: u64,
    /// How many of those for nobody: their callers had left.
    pub wasted: u64,
    /// How many of those served failed.
    pub failed: u64,
    /// How many were refused, at the door or by an outage.
    pub refused: u64,
    /// How many calls were left by their callers.
    pub left: u64,
    /// How long those that came to a worker had waited for it, on average.
    pub mean_wait: Duration,
    /// How long those that have left the backend were in it, on average.
    pub mean_stay: Duration,
    /// How many waited, on average over time.
    pub mean_queue: f64,
    /// How many were in it, served or waiting, on average over time.
    pub mean_in_flight: f64,
    /// Which share of the workers was busy, on average over time.
    pub utilization: f64,
    /// The longest that the queue was.
    pub peak_queue: usize,
    /// The most that were in it, served or waiting.
    pub peak_in_flight: usize,
}

impl BackendFigures {
    pub(crate) fn of(server: &mut Server, now: Nanos) -> Self {
        let (name, workers) = (server.name().to_owned(), server.workers());
        let figures: &Figures = server.figures(now);
        let over_time = |area: u128| if now == 0 { 0.0 } else { area as f64 / 1e9 / to_secs(now) };
        Self {
            name,
            attempts: figures.attempts,
            served: figures.served,
            wasted: figures.wasted,
            failed: figures.failed,
            refused: figures.refused,
            left: figures.left,
            mean_wait: mean(figures.waited, figures.started),
            mean_stay: mean(figures.stayed, figures.departed),
            mean_queue: over_time(figures.queue_area),
            mean_in_flight: over_time(figures.queue_area + figures.busy_area),
            utilization: over_time(figures.busy_area) / workers as f64,
            peak_queue: figures.peak_queue,
            peak_in_flight: figures.peak_in_flight,
        }
    }
}

fn mean(sum: u128, count: u64) -> Duration {
    Duration::from_nanos((sum / u128::from(count.max(1))) as u64)
}
