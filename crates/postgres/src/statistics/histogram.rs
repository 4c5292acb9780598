//! Where durations are counted: a log-linear histogram, as `HdrHistogram` has it (Gil Tene, <http://hdrhistogram.org>).
//! Each power of two is cut into equal parts, so that the error is relative, and a duration finds its place by a shift.

use std::{array, time::Duration};

use crate::sync::{AtomicU64, Ordering::Relaxed};

/// 512 ns: what is shorter counts as this.
const LOWEST: u32 = 9;
/// Up to 2^42 ns, 73 minutes: what is longer counts as this.
const OCTAVES: u32 = if cfg!(all(test, buttress_loom)) { 1 } else { 33 };
/// So the error is 1/11 at most. Parts are counted in 64 bits, since a hot statement would wrap 32 in two days.
const PARTS: u64 = if cfg!(all(test, buttress_loom)) { 1 } else { 5 };
const PLACES: usize = OCTAVES as usize * PARTS as usize;

/// Counts of durations, in 1.3 KiB.
#[derive(Debug)]
pub(crate) struct Histogram {
    places: [AtomicU64; PLACES],
}

impl Default for Histogram {
    fn default() -> Self {
        Self { places: array::from_fn(|_| AtomicU64::new(0)) }
    }
}

impl Histogram {
    pub(crate) fn record(&self, nanos: u64) {
        self.places[place(nanos)].fetch_add(1, Relaxed);
    }

    /// Moves all counts to another.
    pub(crate) fn move_to(&self, other: &Self) {
        for (from, to) in self.places.iter().zip(&other.places) {
            // Most are empty.
            if from.load(Relaxed) > 0 {
                to.fetch_add(from.swap(0, Relaxed), Relaxed);
            }
        }
    }

    /// The durations below which these parts of all lie, by the nearest rank; zero where there is none.
    pub(crate) fn quantiles<const N: usize>(&self, parts: [f64; N]) -> [Duration; N] {
        let counts: Vec<u64> = self.places.iter().map(|place| place.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        parts.map(|part| {
            #[allow(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a rank, exact up to 2^53"
            )]
            let rank = ((total as f64 * part).ceil() as u64).max(1);
            let mut seen = 0;
            let found = counts.iter().position(|count| {
                seen += count;
                seen >= rank
            });
            found.map_or(Duration::ZERO, middle)
        })
    }
}

fn place(nanos: u64) -> usize {
    let nanos = nanos.clamp(1 << LOWEST, (1 << (LOWEST + OCTAVES)) - 1);
    let octave = nanos.ilog2();
    let part = ((nanos - (1 << octave)) * PARTS) >> octave;
    // At most PLACES - 1, by the clamp.
    (octave - LOWEST) as usize * PARTS as usize + part as usize
}

/// What stands for all durations of a place: the harmonic mean of its ends, from which both are equally far relatively.
fn middle(place: usize) -> Duration {
    let (octave, part) = (place as u64 / PARTS, place as u64 % PARTS);
    // The ends are `unit * (PARTS + part)` and `unit * (PARTS + part + 1)`, with units of 2^octave / PARTS.
    let (low, high) = (PARTS + part, PARTS + part + 1);
    let of_units = u128::from(2 * low * high) << (octave + u64::from(LOWEST));
    let nanos = of_units / u128::from((low + high) * PARTS);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3_600_000_000_000;

    fn near(told: Duration, exact: u64) -> bool {
        let (told, exact) = (told.as_nanos() as f64, exact as f64);
        (told - exact).abs() <= exact / 11.0 + 1.0
    }

    #[test]
    fn is_small_and_takes_any_duration() {
        assert!(size_of::<Histogram>() < 1400);
        assert_eq!((place(0), place(512), place(u64::MAX)), (0, 0, PLACES - 1));
        assert_eq!(Histogram::default().quantiles([0.5]), [Duration::ZERO]);
    }

    #[test]
    fn places_follow_each_other() {
        let mut last = 0;
        for step in 0..4_600 {
            let place = place((512.0 * 1.005_f64.powi(step)) as u64);
            assert!(place == last || place == last + 1, "{step}");
            last = place;
        }
        assert!(last > 150);
    }

    #[test]
    fn what_is_moved_is_there_once() {
        let (one, other) = (Histogram::default(), Histogram::default());
        one.record(1_000_000);
        other.record(1_000);
        one.move_to(&other);
        assert_eq!(one.quantiles([0.5]), [Duration::ZERO]);
        let [half, all] = other.quantiles([0.5, 1.0]);
        assert!(near(half, 1_000) && near(all, 1_000_000), "{half:?} {all:?}");
    }

    proptest! {
        #[test]
        fn quantiles_are_within_a_tenth_of_the_sorted_durations(
            mut nanos in prop::collection::vec((0_u32..42).prop_flat_map(|power| 1_000..=(1_000_u64 << power).min(HOUR)), 1..200),
            part in 0.01..=1.0_f64,
        ) {
            let histogram = Histogram::default();
            for nanos in &nanos {
                histogram.record(*nanos);
            }
            nanos.sort_unstable();
            let exact = nanos[(nanos.len() as f64 * part).ceil() as usize - 1];
            let [told] = histogram.quantiles([part]);
            prop_assert!(near(told, exact), "{:?} for {} ns", told, exact);
        }
    }
}
