use crate::window::Tally;

/// Calls that one thread saw end and that nobody has counted yet: one word, all zero when there are none.
///
/// The counts stop at their limits rather than run over: `clean` settles long before, and the bad ones pile up only
/// while the thread that counts is held up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Gathered {
    epoch: u64,
    bucket: u64,
    clean: u64,
    slow: u64,
    failed: u64,
    slow_failed: u64,
}

const EPOCH: u32 = 10;
const BUCKET: u32 = 14;
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

    /// With the newer call counted in; `None` where these calls are of a newer epoch, for which it means nothing.
    pub(crate) fn plus(self, one: &Self) -> Option<Self> {
        if self.epoch != one.epoch {
            let is_newer = (one.epoch.wrapping_sub(self.epoch) & mask(EPOCH)) < 1 << (EPOCH - 1);
            return (is_newer || self == Self::default()).then_some(*one);
        }
        let bad = |a: u64, b: u64| (a + b).min(mask(BAD));
        Some(Self {
            epoch: one.epoch,
            bucket: one.bucket,
            clean: (self.clean + one.clean).min(mask(CLEAN)),
            slow: bad(self.slow, one.slow),
            failed: bad(self.failed, one.failed),
            slow_failed: bad(self.slow_failed, one.slow_failed),
        })
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

    /// The whole number of the bucket, given one at most 16,383 later.
    pub(crate) fn bucket_before(&self, current: u64) -> u64 {
        current - (current.wrapping_sub(self.bucket) & mask(BUCKET)).min(current)
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
        fn counts_stop_and_never_run_over(word: u64, failed: bool, slow: bool) {
            let before = Gathered::unpack(word);
            let one = Gathered::one(before.epoch, before.bucket, failed, slow);
            let after = before.plus(&one).unwrap();
            prop_assert_eq!(Gathered::unpack(after.pack()), after);
            let (calls, limit) = if failed || slow { (after.bad().calls, 3 * 255) } else { (after.clean, 65_535) };
            let was = if failed || slow { before.bad().calls } else { before.clean };
            prop_assert!(calls == was + 1 || (calls == was && calls >= 255 && calls <= limit));
        }

        #[test]
        fn an_older_epoch_changes_nothing_and_a_newer_one_begins_anew(epoch in 0..1u64 << 40, steps in 1..512_u64) {
            let (old, new) = (Gathered::one(epoch, 0, true, false), Gathered::one(epoch + steps, 0, false, false));
            prop_assert_eq!(new.plus(&old), None);
            prop_assert_eq!(old.plus(&new), Some(new));
            prop_assert!(new.is_of(epoch + steps) && !new.is_of(epoch));
        }

        #[test]
        fn a_bucket_is_found_again(bucket: u32, later in 0..16_384_u64) {
            let bucket = u64::from(bucket);
            let gathered = Gathered::one(0, bucket, false, false);
            prop_assert_eq!(gathered.bucket_before(bucket + later), bucket);
        }
    }

    #[test]
    fn an_empty_cell_takes_any_epoch() {
        for epoch in [0, 1, 511, 512, 1023] {
            let one = Gathered::one(epoch, 3, true, true);
            assert_eq!(Gathered::unpack(0).plus(&one), Some(one));
        }
    }
}
