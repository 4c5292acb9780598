use std::{ops::RangeBounds, time::Duration};

use super::Report;

/// What a stack has to keep. Each of these panics with what was wanted, what was, the chart, and how to replay the seed.
impl Report {
    /// At least this share of the calls that began within the range were answered in time.
    ///
    /// # Panics
    /// Where fewer were.
    #[track_caller]
    pub fn assert_goodput(&self, range: impl RangeBounds<Duration>, at_least: f64) {
        let share = self.during(range).share();
        self.check(share >= at_least, || {
            format!("{:.2} % were answered in time, {:.2} % wanted", 100.0 * share, 100.0 * at_least)
        });
    }

    /// At most that time after a moment this share of the calls is answered in time again, and from then on in every
    /// sample until the end: see [`recovery`](Self::recovery).
    ///
    /// # Panics
    /// Where it takes longer, or never comes.
    #[track_caller]
    pub fn assert_recovery(&self, after: Duration, share: f64, within: Duration) {
        let recovery = self.recovery(after, share);
        self.check(recovery.is_some_and(|took| took <= within), || {
            let took = recovery.map_or("never".to_owned(), |took| format!("after {took:?}"));
            format!(
                "back to {:.1} % answered in time {took}, {within:?} after {after:?} wanted",
                100.0 * share
            )
        });
    }

    /// For each call that began within the range at most so many came to the backends.
    ///
    /// # Panics
    /// Where more came.
    #[track_caller]
    pub fn assert_amplification(&self, range: impl RangeBounds<Duration>, at_most: f64) {
        let amplification = self.during(range).amplification();
        self.check(amplification <= at_most, || {
            format!(
                "{amplification:.3} attempts came to the backends for each call, at most {at_most} wanted"
            )
        });
    }

    /// This share of the calls answered in time within the range took at most so long.
    ///
    /// # Panics
    /// Where they took longer, or none was answered.
    #[track_caller]
    pub fn assert_latency(&self, range: impl RangeBounds<Duration>, share: f64, at_most: Duration) {
        let latency = self.during(range).latency(share);
        self.check(latency.is_some_and(|latency| latency <= at_most), || match latency {
            Some(latency) => {
                format!("{:.1} % were answered within {latency:?}, within {at_most:?} wanted", 100.0 * share)
            }
            None => "no call was answered".to_owned(),
        });
    }

    /// There were never more than so many calls in a backend at one time, served or waiting.
    ///
    /// # Panics
    /// Where there were more in one of them.
    #[track_caller]
    pub fn assert_never_more_in_flight_than(&self, at_most: usize) {
        for backend in &self.backends {
            self.check(backend.peak_in_flight <= at_most, || {
                format!(
                    "{} calls were in `{}` at one time, at most {at_most} wanted",
                    backend.peak_in_flight, backend.name
                )
            });
        }
    }

    #[track_caller]
    fn check(&self, holds: bool, message: impl FnOnce() -> String) {
        assert!(holds, "{}\nseed {}; replay: {}\n{self}", message(), self.seed, self.replay);
    }
}
