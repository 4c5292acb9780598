use std::time::Duration;

/// Latencies in buckets of a growing width, so that any quantile of any number of calls is known within 2.2 %.
///
/// These are the buckets of OpenTelemetry's exponential histogram of scale 4: bucket `i` holds what is longer than
/// `2^(i/16)` seconds and at most `2^((i+1)/16)`. From 60 ns to 512 s there are 528 of them, and never more; what is shorter
/// is counted as zero, what is longer lies in the last one. Sketches of several layers, machines or moments can be
/// [merged](Self::merge), and a [difference](Self::since) of two moments is what happened between them.
///
/// Source: OpenTelemetry specification, *Metrics Data Model*, ExponentialHistogram; the idea is that of DDSketch (Masson,
/// Rim, Lee, VLDB 2019).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sketch {
    /// Empty, or one for each bucket.
    counts: Vec<u64>,
    zeros: u64,
    nanos: u64,
    max_nanos: u64,
}

/// Buckets to a doubling.
const PER_OCTAVE: usize = 16;
/// 2^-24 s is 60 ns.
const MIN_EXPONENT: i32 = -24;
/// 2^9 s is 512 s.
const MAX_EXPONENT: i32 = 9;
pub(crate) const BUCKETS: usize = (MAX_EXPONENT - MIN_EXPONENT) as usize * PER_OCTAVE;
pub(crate) const FIRST_INDEX: i32 = MIN_EXPONENT * PER_OCTAVE as i32;

const MANTISSA: u64 = (1 << 52) - 1;

/// The mantissas of `2^(k/16)`: where each bucket within a doubling begins.
#[expect(clippy::unreadable_literal, reason = "they are bits")]
const STEPS: [u64; PER_OCTAVE] = [
    0x0000000000000,
    0x0b5586cf9890f,
    0x172b83c7d517b,
    0x2387a6e756238,
    0x306fe0a31b715,
    0x3dea64c123422,
    0x4bfdad5362a27,
    0x5ab07dd485429,
    0x6a09e667f3bcd,
    0x7a11473eb0187,
    0x8ace5422aa0db,
    0x9c49182a3f090,
    0xae89f995ad3ad,
    0xc199bdd85529c,
    0xd5818dcfba487,
    0xea4afa2a490da,
];

/// How many steps are below each 64th of a doubling. In none of these is more than one step.
const BELOW: [u8; 64] = {
    let mut below = [0; 64];
    let mut cell = 0;
    while cell < 64 {
        while (below[cell] as usize) < PER_OCTAVE && STEPS[below[cell] as usize] < (cell as u64) << 46 {
            below[cell] += 1;
        }
        cell += 1;
    }
    below
};

/// Which bucket so many nanoseconds lie in; none for what counts as zero.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "a bucket is wider than what is lost")]
pub(crate) fn bucket(nanos: u64) -> Option<usize> {
    let bits = (nanos as f64 * 1e-9).to_bits();
    let exponent = (bits >> 52) as i32 - 1023;
    let mantissa = bits & MANTISSA;
    // How many steps are below it: the upper bound belongs to the bucket.
    let below = usize::from(BELOW[(mantissa >> 46) as usize]);
    let below = below + usize::from(below < PER_OCTAVE && mantissa > STEPS[below]);
    let index = (exponent - MIN_EXPONENT) as isize * PER_OCTAVE as isize + below as isize - 1;
    if index < 0 { None } else { Some((index as usize).min(BUCKETS - 1)) }
}

/// The longest time in a bucket, in seconds.
#[must_use]
pub(crate) fn upper_bound(bucket: usize) -> f64 {
    let (octave, step) = ((bucket + 1) / PER_OCTAVE, (bucket + 1) % PER_OCTAVE);
    let exponent = MIN_EXPONENT + octave as i32;
    f64::from_bits(((exponent + 1023) as u64) << 52 | STEPS[step])
}

/// A bound of the histograms that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    /// What people call it.
    advised_millis: u64,
    /// In sixteenths of a doubling from one second on: the nearest bound of a bucket, so that every count is exact.
    index: i32,
}

/// Source: OpenTelemetry's semantic conventions, the advice for `http.client.request.duration`; and a millisecond.
pub(crate) const BOUNDS: [Bound; 15] = {
    const fn bound(advised_millis: u64, index: i32) -> Bound {
        Bound { advised_millis, index }
    }
    [
        bound(1, -159),
        bound(5, -122),
        bound(10, -106),
        bound(25, -85),
        bound(50, -69),
        bound(75, -60),
        bound(100, -53),
        bound(250, -32),
        bound(500, -16),
        bound(750, -7),
        bound(1000, 0),
        bound(2500, 21),
        bound(5000, 37),
        bound(7500, 47),
        bound(10_000, 53),
    ]
};

impl Bound {
    /// Which of the bounds is called so.
    pub(crate) fn called(advised: Duration) -> Option<usize> {
        BOUNDS.iter().position(|bound| Duration::from_millis(bound.advised_millis) == advised)
    }

    #[cfg(any(test, feature = "prometheus"))]
    pub(crate) fn seconds(self) -> f64 {
        upper_bound((self.index - 1 - FIRST_INDEX) as usize)
    }
}

impl Sketch {
    /// As OpenTelemetry counts it.
    pub const SCALE: i32 = 4;
    /// What is not longer counts as zero: 2^-24 s.
    pub const ZERO: f64 = 1.0 / (1_u64 << 24) as f64;

    /// Adds what is counted apart from the buckets.
    pub(crate) fn add(&mut self, zeros: u64, nanos: u64, max_nanos: u64) {
        self.zeros += zeros;
        self.nanos = self.nanos.saturating_add(nanos);
        self.max_nanos = self.max_nanos.max(max_nanos);
    }

    /// Adds counts of the buckets from that one on. There may be more counts than buckets: those of the rest are zero.
    pub(crate) fn add_buckets(&mut self, first: usize, counts: impl Iterator<Item = u64>) {
        self.counts.resize(BUCKETS, 0);
        self.counts[first..].iter_mut().zip(counts).for_each(|(own, more)| *own += more);
    }

    /// Adds one call.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        match bucket(nanos) {
            Some(bucket) => {
                self.counts.resize(BUCKETS, 0);
                self.counts[bucket] += 1;
            }
            None => self.zeros += 1,
        }
        self.nanos = self.nanos.saturating_add(nanos);
        self.max_nanos = self.max_nanos.max(nanos);
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Self) {
        if !other.counts.is_empty() {
            self.counts.resize(BUCKETS, 0);
            self.counts.iter_mut().zip(&other.counts).for_each(|(own, other)| *own += other);
        }
        self.zeros += other.zeros;
        self.nanos = self.nanos.saturating_add(other.nanos);
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    /// What has come since an earlier moment of the same. The longest one of all is known, not that of between: it is
    /// bounded by its bucket.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts.clone();
        counts.iter_mut().zip(&earlier.counts).for_each(|(now, before)| *now = now.saturating_sub(*before));
        let last = counts.iter().rposition(|count| *count > 0);
        let bound = last.map_or(0, |bucket| (upper_bound(bucket) * 1e9) as u64);
        Self {
            counts,
            zeros: self.zeros.saturating_sub(earlier.zeros),
            nanos: self.nanos.saturating_sub(earlier.nanos),
            max_nanos: if self.max_nanos > earlier.max_nanos {
                self.max_nanos
            } else {
                bound.min(self.max_nanos)
            },
        }
    }

    /// How many calls.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// How long all of them took together, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        Duration::from_nanos(self.nanos).as_secs_f64()
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }

    /// The mean; none of no calls.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        let count = self.count();
        (count > 0).then(|| Duration::from_nanos(self.nanos / count))
    }

    /// What that share of the calls, from 0 to 1, does not exceed, within 2.2 %; none of no calls.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_sign_loss, reason = "a rank is no ledger")]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((share.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = self.zeros;
        if rank <= seen {
            return Some(Duration::ZERO);
        }
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if rank <= seen {
                // The middle, of which both ends are equally far as a share.
                let upper = upper_bound(bucket);
                let lower = upper / f64::exp2(1.0 / PER_OCTAVE as f64);
                let middle = Duration::from_secs_f64(2.0 * upper * lower / (upper + lower));
                return Some(middle.min(self.max()));
            }
        }
        Some(self.max())
    }

    /// How many counted as zero.
    #[must_use]
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// How many do not exceed each of the [`BOUNDS`].
    pub(crate) fn within(&self) -> [u64; BOUNDS.len()] {
        let mut buckets = self.buckets().peekable();
        let mut count = self.zeros();
        BOUNDS.map(|bound| {
            while let Some((_, _, more)) = buckets.next_if(|(index, ..)| *index < bound.index) {
                count += more;
            }
            count
        })
    }

    /// The buckets that are not empty: OpenTelemetry's index of each, its upper bound in seconds, and its count.
    pub fn buckets(&self) -> impl Iterator<Item = (i32, f64, u64)> + '_ {
        let filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        filled.map(|(bucket, count)| (FIRST_INDEX + bucket as i32, upper_bound(bucket), *count))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_steps_are_roots_of_two() {
        for (k, step) in STEPS.into_iter().enumerate() {
            let value = f64::from_bits(1023 << 52 | step);
            assert!((value - f64::exp2(k as f64 / 16.0)).abs() < 1e-15, "{k}");
        }
    }

    #[test]
    fn the_bounds_are_the_nearest_to_what_is_advised() {
        for (at, bound) in BOUNDS.into_iter().enumerate() {
            let advised = Duration::from_millis(bound.advised_millis);
            assert_eq!(bound.index, (16.0 * advised.as_secs_f64().log2()).round() as i32, "{advised:?}");
            assert!((bound.seconds() / advised.as_secs_f64() - 1.0).abs() < 0.022, "{advised:?}");
            assert_eq!(Bound::called(advised), Some(at));
        }
        assert_eq!(Bound::called(Duration::from_millis(300)), None);
    }

    #[test]
    fn the_range_ends_in_the_first_and_the_last_bucket() {
        assert_eq!(bucket(0), None);
        assert_eq!(bucket(59), None);
        assert_eq!(bucket(60), Some(0));
        assert_eq!(bucket(512_000_000_000), Some(BUCKETS - 1));
        assert_eq!(bucket(u64::MAX), Some(BUCKETS - 1));
    }

    proptest! {
        #[test]
        fn every_latency_lies_within_the_bounds_of_its_bucket(nanos in 60_u64..512_000_000_000) {
            let (seconds, bucket) = (nanos as f64 * 1e-9, bucket(nanos).unwrap());
            prop_assert!(seconds <= upper_bound(bucket));
            prop_assert!(bucket == 0 || seconds > upper_bound(bucket - 1));
        }

        #[test]
        fn quantiles_are_those_of_the_sorted_list(mut nanos in prop::collection::vec(100_u64..100_000_000_000, 1..300), share in 0.0..=1.0_f64) {
            let mut sketch = Sketch::default();
            nanos.iter().for_each(|nanos| sketch.record(Duration::from_nanos(*nanos)));
            nanos.sort_unstable();
            let rank = ((share * nanos.len() as f64).ceil() as usize).clamp(1, nanos.len());
            let (exact, got) = (nanos[rank - 1] as f64, sketch.quantile(share).unwrap().as_nanos() as f64);
            prop_assert!((got - exact).abs() <= exact * 0.022 + 1.0, "{got} for {exact}");
            prop_assert_eq!(sketch.count(), nanos.len() as u64);
            prop_assert_eq!(sketch.max().as_nanos() as u64, *nanos.last().unwrap());
        }

        #[test]
        fn a_merge_is_all_of_both_and_a_difference_takes_it_apart(a in prop::collection::vec(any::<u32>(), 0..50), b in prop::collection::vec(any::<u32>(), 0..50)) {
            let of = |nanos: &[u32]| {
                let mut sketch = Sketch::default();
                nanos.iter().for_each(|nanos| sketch.record(Duration::from_nanos(u64::from(*nanos))));
                sketch
            };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let all: Vec<u32> = a.iter().chain(&b).copied().collect();
            prop_assert_eq!(&merged, &of(&all));
            let rest = merged.since(&of(&a));
            prop_assert_eq!(rest.count(), b.len() as u64);
            prop_assert_eq!(rest.buckets().collect::<Vec<_>>(), of(&b).buckets().collect::<Vec<_>>());
        }
    }
}
