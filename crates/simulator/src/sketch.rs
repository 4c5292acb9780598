use std::time::Duration;

use crate::nanos::{Nanos, from_duration};

/// Buckets to each doubling.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// Counts of durations in buckets a thirty-second wide, from a microsecond to half a century. Sparse, ordered.
///
/// Its size depends on how far the durations are spread (some 30 buckets to a doubling), never on how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sketch {
    buckets: Vec<(u16, u64)>,
}

impl Sketch {
    pub(crate) fn add(&mut self, nanos: Nanos) {
        self.add_to(bucket_of(nanos / 1000), 1);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.buckets {
            self.add_to(bucket, count);
        }
    }

    fn add_to(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |&(bucket, _)| bucket) {
            Ok(at) => self.buckets[at].1 += count,
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// The duration that this share of all does not exceed; within 1.6 % and half a microsecond.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().map(|&(_, count)| count).sum();
        let rank = (share.clamp(0.0, 1.0) * total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let (bucket, _) = self.buckets.iter().find(|&&(_, count)| {
            seen += count;
            seen >= rank
        })?;
        Some(middle_of(*bucket))
    }
}

/// Below two doublings' worth of steps each microsecond has its own bucket.
fn bucket_of(micros: u64) -> u16 {
    if micros < STEPS {
        return micros as u16;
    }
    let doubling = micros.ilog2() - STEP_BITS;
    (u64::from(doubling) * STEPS + (micros >> doubling)) as u16
}

fn middle_of(bucket: u16) -> Duration {
    let bucket = u64::from(bucket);
    let doubling = (bucket / STEPS).saturating_sub(1);
    let lowest = (bucket - doubling * STEPS) << doubling;
    Duration::from_nanos(lowest.saturating_mul(1000).saturating_add(500 << doubling))
}

impl Extend<Duration> for Sketch {
    fn extend<I: IntoIterator<Item = Duration>>(&mut self, durations: I) {
        durations.into_iter().for_each(|duration| self.add(from_duration(duration)));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_duration_lies_near_the_middle_of_its_bucket(nanos in 0..1u64 << 60) {
            let middle = middle_of(bucket_of(nanos / 1000)).as_nanos() as f64;
            prop_assert!((middle - nanos as f64).abs() <= 500.0 + nanos as f64 / 60.0, "{middle} {nanos}");
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_durations(mut millis in prop::collection::vec(1..100_000u64, 1..200), share in 0.0..1.0f64) {
            let mut sketch = Sketch::default();
            sketch.extend(millis.iter().copied().map(Duration::from_millis));
            millis.sort_unstable();
            let rank = ((share * millis.len() as f64).ceil() as usize).max(1);
            let exact = millis[rank - 1] as f64 / 1e3;
            let told = sketch.quantile(share).unwrap().as_secs_f64();
            prop_assert!((told / exact - 1.0).abs() < 0.02, "{told} {exact}");
        }
    }

    #[test]
    fn merging_is_adding_and_size_is_bounded() {
        let (mut a, mut b, mut both) = (Sketch::default(), Sketch::default(), Sketch::default());
        for micros in 0..100_000 {
            let duration = Duration::from_micros(micros * 37);
            if micros % 3 == 0 {
                a.extend([duration])
            } else {
                b.extend([duration])
            }
            both.extend([duration]);
        }
        a.merge(&b);
        assert_eq!(a, both);
        assert!(a.buckets.len() < 600, "{}", a.buckets.len());
        assert_eq!(Sketch::default().quantile(0.5), None);
    }
}
