//! How many calls took how long: a histogram with places of equal relative width.
//!
//! A place is a sixteenth of an octave wide, or 66 us where that is more. So whatever is told of it is at most 6.25 %, or
//! 66 us, above what was recorded, and never below. (Linear places within octaves are HdrHistogram's; that equal relative
//! width bounds the relative error of every quantile: Masson, Rim and Lee, "DDSketch", VLDB 2019.)

use std::{array, time::Duration};

use crate::sync::{AtomicU32, Relaxed};

/// Times are told in units of two to this power of nanoseconds: 66 us.
const UNIT_BITS: u32 = 16;
/// An octave has two to this power of places.
const OCTAVE_BITS: u32 = 4;
const OCTAVE: u64 = 1 << OCTAVE_BITS;
/// Up to 18 minutes; the last place takes what is longer.
pub(crate) const PLACES: usize = if cfg!(buttress_loom) { 2 } else { 336 };

#[derive(Debug)]
pub(crate) struct Histogram([AtomicU32; PLACES]);

impl Histogram {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| AtomicU32::new(0)))
    }

    pub(crate) fn record(&self, took: Duration) {
        self.0[place(took)].fetch_add(1, Relaxed);
    }

    pub(crate) fn clear(&self) {
        // Not `store`, whose place among additions at the same time loom does not know.
        self.0.iter().for_each(|count| _ = count.swap(0, Relaxed));
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts { at_once: 0, places: array::from_fn(|place| self.0[place].load(Relaxed).into()) }
    }
}

/// What was counted, for somebody to look at in peace.
#[derive(Debug)]
pub(crate) struct Counts {
    /// Calls that took no time at all.
    pub(crate) at_once: u64,
    places: [u64; PLACES],
}

impl Counts {
    pub(crate) fn total(&self) -> u64 {
        self.at_once + self.places.iter().sum::<u64>()
    }

    pub(crate) fn and(mut self, other: &Self) -> Self {
        self.at_once += other.at_once;
        self.places.iter_mut().zip(other.places).for_each(|(count, other)| *count += other);
        self
    }

    /// The least time that this share of all calls did not exceed (nearest rank), rounded up to the end of its place.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a small number"
        )]
        #[expect(clippy::cast_precision_loss, reason = "what is lost is less than a millionth of a rank")]
        let rank = (share * self.total() as f64).ceil() as u64;
        let mut counted = self.at_once;
        if counted >= rank {
            return Duration::ZERO;
        }
        let reaches = |count: &u64| {
            counted += count;
            counted >= rank
        };
        end(self.places.iter().position(reaches).unwrap_or(PLACES - 1))
    }
}

/// As what was recorded is told.
pub(crate) fn rounded_up(took: Duration) -> Duration {
    end(place(took))
}

fn place(took: Duration) -> usize {
    let units = u64::try_from(took.as_nanos() >> UNIT_BITS).unwrap_or(u64::MAX);
    let place = match units.checked_ilog2() {
        Some(log) if log >= OCTAVE_BITS => {
            let octave = u64::from(log - OCTAVE_BITS + 1);
            octave * OCTAVE + ((units >> (log - OCTAVE_BITS)) & (OCTAVE - 1))
        }
        _ => units,
    };
    usize::try_from(place).map_or(PLACES - 1, |place| place.min(PLACES - 1))
}

/// The least time that lies beyond the place.
fn end(place: usize) -> Duration {
    let (octave, within) = (place as u64 / OCTAVE, place as u64 % OCTAVE);
    let units = match octave {
        0 => within + 1,
        _ => (OCTAVE + within + 1) << (octave - 1),
    };
    Duration::from_nanos(units << UNIT_BITS)
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_follow_each_other_without_a_gap() {
        assert_eq!(place(Duration::ZERO), 0);
        for number in 0..PLACES - 1 {
            let end = end(number);
            assert_eq!((place(end - Duration::from_nanos(1)), place(end)), (number, number + 1));
        }
        assert_eq!(place(Duration::MAX), PLACES - 1);
        assert!(end(PLACES - 1) > Duration::from_secs(18 * 60));
    }

    proptest! {
        #[test]
        fn a_place_is_narrow(nanos in 0..1_000_000_000_000_u64) {
            let took = Duration::from_nanos(nanos);
            let told = end(place(took));
            prop_assert!(told > took);
            prop_assert!(told <= took + (took / 16).max(Duration::from_nanos(1 << UNIT_BITS)));
        }
    }

    #[test]
    fn a_quantile_is_of_the_nearest_rank() {
        let histogram = Histogram::new();
        for ms in 1..=15 {
            histogram.record(Duration::from_millis(ms));
        }
        let counts = Counts { at_once: 5, ..histogram.counts() };
        assert_eq!(counts.total(), 20);
        let quantile = |share| counts.quantile(share).as_millis();
        assert_eq!(counts.quantile(0.25), Duration::ZERO);
        assert_eq!((quantile(0.26), quantile(0.3), quantile(0.95), quantile(1.0)), (1, 1, 14, 15));
    }
}
