use std::{fmt, sync::Arc, time::Duration};

use super::histogram::Histogram;
use crate::sync::{AtomicU64, Ordering::Relaxed};

/// What is counted of the statements of one text. A recording is three additions and a comparison.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    count: AtomicU64,
    errors: AtomicU64,
    rows: AtomicU64,
    /// ns
    total: AtomicU64,
    /// ns
    max: AtomicU64,
    histogram: Histogram,
}

impl Figures {
    /// `rows` is nothing where it failed.
    pub(crate) fn record(&self, took: Duration, rows: Option<u64>) {
        let nanos = nanos(took);
        self.count.fetch_add(1, Relaxed);
        self.total.fetch_add(nanos, Relaxed);
        self.histogram.record(nanos);
        if nanos > self.max.load(Relaxed) {
            self.max.fetch_max(nanos, Relaxed);
        }
        match rows {
            Some(0) => {}
            Some(rows) => {
                self.rows.fetch_add(rows, Relaxed);
            }
            None => {
                self.errors.fetch_add(1, Relaxed);
            }
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// ns
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// Moves everything to another, and says how many there were. What is recorded meanwhile is in one or the other.
    pub(crate) fn move_to(&self, other: &Self) -> u64 {
        let count = self.count.swap(0, Relaxed);
        other.count.fetch_add(count, Relaxed);
        for (from, to) in
            [(&self.errors, &other.errors), (&self.rows, &other.rows), (&self.total, &other.total)]
        {
            to.fetch_add(from.swap(0, Relaxed), Relaxed);
        }
        other.max.fetch_max(self.max.swap(0, Relaxed), Relaxed);
        self.histogram.move_to(&other.histogram);
        count
    }

    pub(crate) fn snapshot(&self, text: Option<Arc<str>>) -> StatementStats {
        let max = Duration::from_nanos(self.max.load(Relaxed));
        let quantiles = self.histogram.quantiles([0.5, 0.95, 0.99]).map(|quantile| quantile.min(max));
        StatementStats {
            text,
            count: self.count(),
            errors: self.errors.load(Relaxed),
            rows: self.rows.load(Relaxed),
            total: Duration::from_nanos(self.total()),
            max,
            quantiles,
        }
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What was counted of all statements of one normalised text: one row of
/// [`Postgres::statements`](crate::Postgres::statements).
///
/// A duration is that from having a connection until the last row, or until the statement failed or was given up.
#[derive(Clone, PartialEq, Eq)]
pub struct StatementStats {
    text: Option<Arc<str>>,
    count: u64,
    errors: u64,
    rows: u64,
    total: Duration,
    max: Duration,
    quantiles: [Duration; 3],
}

impl StatementStats {
    /// The normalised text, of 2 KiB at most: each literal is a `?`. Of [the rest](Self::is_other) it is `other`.
    #[must_use]
    pub fn text(&self) -> &str {
        self.text.as_deref().unwrap_or("other")
    }

    /// Whether this is not one text, but the sum of all those that have no place of their own.
    #[must_use]
    pub fn is_other(&self) -> bool {
        self.text.is_none()
    }

    /// How often it was run, with the errors.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How often it failed, or was given up by a deadline or a dropped future.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors
    }

    /// How many rows came back or were affected.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The sum of all durations.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.total
    }

    /// The mean duration; zero if there is none.
    #[must_use]
    pub fn mean(&self) -> Duration {
        // Not `Duration / u32`: a count may be larger.
        let mean = self.total.as_nanos().checked_div(u128::from(self.count)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// Half of the durations are not longer. As the other two, it is exact within 10 % from 1 us to 1 h.
    #[must_use]
    pub fn p50(&self) -> Duration {
        self.quantiles[0]
    }

    /// 95 % of the durations are not longer.
    #[must_use]
    pub fn p95(&self) -> Duration {
        self.quantiles[1]
    }

    /// 99 % of the durations are not longer.
    #[must_use]
    pub fn p99(&self) -> Duration {
        self.quantiles[2]
    }

    /// The longest duration.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.max
    }
}

impl fmt::Debug for StatementStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p95, p99] = self.quantiles;
        f.debug_struct("StatementStats")
            .field("text", &self.text())
            .field("count", &self.count)
            .field("errors", &self.errors)
            .field("rows", &self.rows)
            .field("total", &self.total)
            .field("p50", &p50)
            .field("p95", &p95)
            .field("p99", &p99)
            .field("max", &self.max)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_it_is_told() {
        let figures = Figures::default();
        figures.record(Duration::from_millis(2), Some(3));
        figures.record(Duration::from_millis(4), None);
        figures.record(Duration::MAX, Some(0));
        let told = figures.snapshot(None);
        assert_eq!((told.count(), told.errors(), told.rows()), (3, 1, 3));
        assert_eq!(told.max(), Duration::from_nanos(u64::MAX));
        assert!(told.is_other() && told.text() == "other");
        assert_eq!(Figures::default().snapshot(None).mean(), Duration::ZERO);
    }

    #[test]
    fn what_is_moved_is_there_once() {
        let (one, other) = (Figures::default(), Figures::default());
        one.record(Duration::from_millis(2), Some(3));
        other.record(Duration::from_millis(4), Some(1));
        one.move_to(&other);
        one.move_to(&other);
        let told = other.snapshot(None);
        assert_eq!((told.count(), told.rows(), told.total()), (2, 4, Duration::from_millis(6)));
        assert_eq!((told.mean(), told.max()), (Duration::from_millis(3), Duration::from_millis(4)));
        assert_eq!(one.snapshot(None), Figures::default().snapshot(None));
    }
}
