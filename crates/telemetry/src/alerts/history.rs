use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::subject::Raw;

/// What a figure was in a window's time.
///
/// However long the window is and however often one looks, it keeps at most [`MOST`](Self::MOST) moments, a sixtieth of the
/// window apart: 62 of 64 bytes, and where quantiles are asked for 62 sketches of 4.3 kB. So the window that is looked at is
/// up to a sixtieth longer than asked for, and until so much time has passed it is what there was.
#[derive(Debug)]
pub(crate) struct History {
    window: Duration,
    kept: VecDeque<(Instant, Raw)>,
    latest: Option<(Instant, Raw)>,
    /// The latest as it was read.
    read: Option<Raw>,
    /// What was counted before the counter began again.
    before: Option<Raw>,
}

const STEPS: u32 = 60;

impl History {
    #[cfg(test)]
    pub(crate) const MOST: usize = STEPS as usize + 2;

    pub(crate) fn new(window: Duration) -> Self {
        Self { window, kept: VecDeque::new(), latest: None, read: None, before: None }
    }

    /// Adds what is counted now. A counter that is smaller than before has begun again.
    pub(crate) fn push(&mut self, now: Instant, raw: Raw) {
        if self.read.as_ref().is_some_and(|last| raw.is_less_than(last)) {
            self.begin_again();
        }
        let sample = (now, raw.plus(self.before.as_ref()));
        self.read = Some(raw);
        let is_due = self.kept.back().is_none_or(|(at, _)| now - *at >= self.window / STEPS);
        if is_due {
            self.kept.push_back(sample.clone());
        }
        self.latest = Some(sample);
        while self.kept.get(1).is_some_and(|(at, _)| now - *at >= self.window) {
            self.kept.pop_front();
        }
    }

    /// What is added next is counted from nothing, whatever it is.
    pub(crate) fn begin_again(&mut self) {
        if let Some(last) = self.read.take() {
            self.before = Some(last.plus(self.before.as_ref()));
        }
    }

    /// What happened within the window: how much it grew per second, its share, or its quantile. None of nothing.
    pub(crate) fn figure(&self, quantile: Option<f64>) -> Option<f64> {
        let ((began, first), (ended, last)) = (self.kept.front()?, self.latest.as_ref()?);
        let span = *ended - *began;
        if span.is_zero() {
            return None;
        }
        match (first, last) {
            // One that has not been watched for so long has not grown for so long.
            (Raw::Number(first), Raw::Number(last)) => {
                Some((last - first) / span.max(self.window).as_secs_f64())
            }
            (Raw::Share { part: a, all: b }, Raw::Share { part: c, all: d }) =>
            {
                #[expect(clippy::cast_precision_loss, reason = "a share is no ledger")]
                (d > b).then(|| (c - a) as f64 / (d - b) as f64)
            }
            (Raw::Sketch(first), Raw::Sketch(last)) => {
                Some(last.since(first).quantile(quantile?)?.as_secs_f64())
            }
            _ => None,
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

impl Raw {
    fn is_less_than(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Number(now), Self::Number(before)) => now < before,
            (Self::Share { part, all }, Self::Share { part: part_before, all: all_before }) => {
                part < part_before || all < all_before
            }
            (Self::Sketch(now), Self::Sketch(before)) => now.count() < before.count(),
            _ => true,
        }
    }

    fn plus(&self, other: Option<&Self>) -> Self {
        match (self, other) {
            (Self::Number(a), Some(Self::Number(b))) => Self::Number(a + b),
            (Self::Share { part, all }, Some(Self::Share { part: more_part, all: more })) => {
                Self::Share { part: part + more_part, all: all + more }
            }
            (Self::Sketch(own), Some(Self::Sketch(other))) => {
                let mut sum = own.clone();
                sum.merge(other);
                Self::Sketch(sum)
            }
            _ => self.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Sketch;

    proptest! {
        /// The model keeps everything. What the history says is what happened since one moment of it that is at least as old
        /// as the window and at most a sixtieth and a look older, or else since the first.
        #[test]
        fn it_says_what_one_that_keeps_everything_says(
            looks in prop::collection::vec((1_u64..400, 0_u64..50, 0_u64..50, prop::bool::weighted(0.05)), 1..300),
            window in 20_u64..20_000,
        ) {
            let window = Duration::from_millis(window);
            let (mut history, began) = (History::new(window), Instant::now());
            let (mut model, mut now, mut read, mut counted) = (Vec::new(), began, (0, 0), (0, 0));
            for (wait, good, bad, restarts) in looks {
                now += Duration::from_millis(wait);
                if restarts {
                    read = (0, 0);
                }
                // A restart shows itself by a smaller count only.
                let shows = model.last().is_none_or(|(_, _, last): &(Instant, (u64, u64), (u64, u64))| read.0 + bad < last.0 || read.1 + good + bad < last.1);
                if restarts && !shows {
                    read = model.last().map_or((0, 0), |(_, _, last)| *last);
                }
                read = (read.0 + bad, read.1 + good + bad);
                counted = if model.is_empty() { read } else { (counted.0 + bad, counted.1 + good + bad) };
                model.push((now, counted, read));
                history.push(now, Raw::Share { part: read.0, all: read.1 });
                prop_assert!(history.len() <= History::MOST);

                let got = history.figure(None);
                let slack = window / STEPS + Duration::from_millis(400);
                let is_old = |at: Instant| now - at >= window;
                let covered = model.iter().any(|(at, ..)| is_old(*at));
                let since = model.iter().filter(|(at, ..)| if covered { is_old(*at) && now - *at <= window + slack } else { *at == model[0].0 });
                let all: Vec<Option<f64>> = since.map(|(_, (bad, all), _)| {
                    (counted.1 > *all).then(|| (counted.0 - bad) as f64 / (counted.1 - all) as f64)
                }).collect();
                prop_assert!(all.contains(&got), "{got:?} is none of {all:?}");
            }
        }

        #[test]
        fn a_rate_is_growth_over_the_window_and_never_negative(steps in prop::collection::vec((1_u64..2000, any::<u8>()), 2..100)) {
            let window = Duration::from_secs(10);
            let (mut history, mut now) = (History::new(window), Instant::now());
            for (wait, count) in steps {
                now += Duration::from_millis(wait);
                history.push(now, Raw::Number(f64::from(count)));
                prop_assert!(history.figure(None).is_none_or(|rate| rate >= 0.0));
            }
        }
    }

    #[test]
    fn a_moment_takes_what_is_said() {
        assert!(size_of::<(Instant, Raw)>() <= 64);
    }

    #[test]
    fn a_quantile_is_that_of_the_window_alone() {
        let (mut history, began, mut sketch) =
            (History::new(Duration::from_secs(60)), Instant::now(), Sketch::default());
        for second in 0..300_u64 {
            let latency = if second < 200 { 1000 } else { 10 };
            sketch.record(Duration::from_millis(latency));
            history.push(began + Duration::from_secs(second), Raw::Sketch(sketch.clone()));
            assert!(history.len() <= History::MOST);
        }
        let p99 = history.figure(Some(0.99)).unwrap();
        assert!((p99 - 0.01).abs() < 0.001, "{p99}");
    }

    #[test]
    fn one_moment_and_a_window_without_calls_say_nothing() {
        let (mut history, now) = (History::new(Duration::from_secs(1)), Instant::now());
        assert_eq!(history.figure(None), None);
        history.push(now, Raw::Share { part: 1, all: 1 });
        assert_eq!(history.figure(None), None, "what was before is nobody's");
        history.push(now + Duration::from_secs(1), Raw::Share { part: 1, all: 1 });
        assert_eq!(history.figure(None), None);
        history.push(now + Duration::from_secs(2), Raw::Share { part: 2, all: 3 });
        assert_eq!(history.figure(None), Some(0.5));
    }
}
