use crate::window::Tally;

/// Calls that one thread saw end and that nobody has counted yet: one word, all zero when there are none.
///
/// One that [is full](Self::is_full) must be emptied before more goes in; that happens only while the thread that counts
/// is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Gathered {
    epoch: u64,
    bucket: u64,
    clean: u64,
    slow: u64,
    failed: u64,
    slow_failed: u64,
}

/// An old epoch's calls are cleared at the latest when the next but one begins.
const EPOCH: u32 = 6;
const BUCKET: u32 = 18;
/// By how many buckets a call may seem to be later than the counting thread's clock: it was read before the turn was taken.
/// Calls that wait in the cell of an idle thread are found in the right bucket for the other 261,120.
const AHEAD: u64 = mask(BUCKET) >> 8;
const CLEAN: u32 = 16;
const BAD: u32 = 8;

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl Gathered {
    /// How many good calls fit, with a margin for the threads that share a cell.
    pub(crate) const MOST_CLEAN: u64 = mask(CLEAN) / 2;

    pub(crate) fn one(epoch: u64, bucket: u64, failed: bool, slow: bool) -> Self {
        let is = |f: bool, s: bool| u64::from(failed == f && slow == s);
        Self {
            epoch: epoch & mask(EPOCH),
            bucket: bucket & mask(BUCKET),
            clean: is(false, false),
            slow: is(false, true),
            failed: is(true, false),
            slow_failed: is(true, true),
        }
    }

    /// With one more call of the same epoch counted in.
    pub(crate) const fn plus(self, one: &Self) -> Self {
        Self {
            epoch: one.epoch,
            bucket: one.bucket,
            clean: self.clean + one.clean,
            slow: self.slow + one.slow,
            failed: self.failed + one.failed,
            slow_failed: self.slow_failed + one.slow_failed,
        }
    }

    /// The packed word with one more good call, where it holds calls of the same epoch and bucket and less than so many
    /// good ones.
    #[inline]
    pub(crate) const fn with_good(word: u64, epoch: u64, bucket: u64, room: u64) -> Option<u64> {
        let tag = (epoch & mask(EPOCH)) << BUCKET | bucket & mask(BUCKET);
        let good = word >> (3 * BAD) & mask(CLEAN);
        if word >> (CLEAN + 3 * BAD) == tag && word != 0 && good + 1 < room {
            Some(word + (1 << (3 * BAD)))
        } else {
            None
        }
    }

    /// Whether one more call of any kind might not fit.
    pub(crate) const fn is_full(&self) -> bool {
        self.clean == mask(CLEAN)
            || self.slow == mask(BAD)
            || self.failed == mask(BAD)
            || self.slow_failed == mask(BAD)
    }

    pub(crate) const fn clean(&self) -> Tally {
        Tally { calls: self.clean, failed: 0, slow: 0 }
    }

    pub(crate) const fn bad(&self) -> Tally {
        Tally {
            calls: self.slow + self.failed + self.slow_failed,
            failed: self.failed + self.slow_failed,
            slow: self.slow + self.slow_failed,
        }
    }

    pub(crate) const fn is_of(&self, epoch: u64) -> bool {
        self.epoch == epoch & mask(EPOCH)
    }

    /// Whether a call of that bucket would blur when these ended.
    pub(crate) const fn is_before(&self, one: &Self) -> bool {
        self.bucket != one.bucket && self.epoch == one.epoch && self.clean + self.bad().calls > 0
    }

    /// The whole number of the bucket, or the current one where it is later. Never a later one: after a long pause that may
    /// be a mistake, and a window that is moved on to the future counts nothing until then.
    pub(crate) const fn bucket_until(&self, current: u64) -> u64 {
        let back = current.wrapping_sub(self.bucket) & mask(BUCKET);
        if back > mask(BUCKET) - AHEAD { current } else { current.saturating_sub(back) }
    }

    pub(crate) const fn pack(self) -> u64 {
        let mut word = self.epoch;
        word = word << BUCKET | self.bucket;
        word = word << CLEAN | self.clean;
        word = word << BAD | self.slow;
        word = word << BAD | self.failed;
        word << BAD | self.slow_failed
    }

    pub(crate) const fn unpack(word: u64) -> Self {
        Self {
            epoch: word >> (BUCKET + CLEAN + 3 * BAD),
            bucket: word >> (CLEAN + 3 * BAD) & mask(BUCKET),
            clean: word >> (3 * BAD) & mask(CLEAN),
            slow: word >> (2 * BAD) & mask(BAD),
            failed: word >> BAD & mask(BAD),
            slow_failed: word & mask(BAD),
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_keeps_everything(word: u64) {
            prop_assert_eq!(Gathered::unpack(word).pack(), word);
        }

        #[test]
        fn one_more_fits_unless_it_is_full(word: u64, failed: bool, slow: bool) {
            let before = Gathered::unpack(word);
            prop_assume!(!before.is_full());
            let after = before.plus(&Gathered::one(before.epoch, before.bucket, failed, slow));
            prop_assert_eq!(Gathered::unpack(after.pack()), after);
            let calls = |cell: Gathered| cell.clean().calls + cell.bad().calls;
            prop_assert_eq!(calls(after), calls(before) + 1);
        }

        #[test]
        fn the_short_way_does_the_same(word: u64, epoch in 0..64_u64, bucket: u32, same: bool) {
            let one = Gathered::one(epoch, bucket.into(), false, false);
            let word = if same { Gathered { epoch: one.epoch, bucket: one.bucket, ..Gathered::unpack(word) }.pack() } else { word };
            let before = Gathered::unpack(word);
            let fits = word != 0 && before.clean + 1 < Gathered::MOST_CLEAN && one.bucket == before.bucket && one.epoch == before.epoch;
            let expected = fits.then(|| before.plus(&one).pack());
            prop_assert_eq!(Gathered::with_good(word, epoch, bucket.into(), Gathered::MOST_CLEAN), expected);
        }

        #[test]
        fn a_bucket_is_found_again(bucket: u32, later in 0..=mask(BUCKET) - AHEAD, earlier in 0..=AHEAD, current: u32) {
            let bucket = u64::from(bucket);
            let gathered = Gathered::one(0, bucket, false, false);
            prop_assert_eq!(gathered.bucket_until(bucket + later), bucket);
            let before = bucket.saturating_sub(earlier);
            prop_assert_eq!(gathered.bucket_until(before), before);
            prop_assert!(gathered.bucket_until(current.into()) <= current.into());
        }
    }
}
