use crate::sync::{AcqRel, Acquire, AtomicU64};

/// How many failures an endpoint has had in a row, in one word with its epoch: the verdict of a call that began before the
/// endpoint was ejected, or came back, changes nothing.
#[derive(Debug)]
pub(crate) struct Verdicts(AtomicU64);

impl Verdicts {
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn epoch(&self) -> u32 {
        epoch(self.0.load(Acquire))
    }

    #[inline]
    pub(crate) fn success(&self, of: u32) {
        let word = self.0.load(Acquire);
        // Nearly always there is nothing to forget.
        if word != whole(of, 0) {
            self.settle(of);
        }
    }

    /// The last verdict was a failure.
    pub(crate) fn is_failing(&self) -> bool {
        count(self.0.load(Acquire)) > 0
    }

    /// There is no failure to speak of any more.
    #[cold]
    pub(crate) fn settle(&self, of: u32) {
        let forget = |word| (epoch(word) == of).then_some(whole(of, 0));
        _ = self.0.fetch_update(AcqRel, Acquire, forget);
    }

    /// Says of one of the failures in a row that it is the one which is too much.
    pub(crate) fn failure(&self, of: u32, threshold: u32) -> bool {
        let more = |word| (epoch(word) == of).then(|| whole(of, count(word).saturating_add(1)));
        self.0
            .fetch_update(AcqRel, Acquire, more)
            .is_ok_and(|before| count(before).saturating_add(1) == threshold)
    }

    /// A new epoch begins, with so many failures.
    pub(crate) fn begin_anew(&self, failures: u32) {
        let anew = |word| Some(whole(epoch(word).wrapping_add(1), failures));
        _ = self.0.fetch_update(AcqRel, Acquire, anew);
    }
}

fn whole(epoch: u32, count: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(count)
}

fn epoch(word: u64) -> u32 {
    (word >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "half of a word")]
fn count(word: u64) -> u32 {
    word as u32
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_and_of_this_epoch_are_too_much() {
        let verdicts = Verdicts::new();
        let fail = |epoch, times: usize| (0..times).filter(|_| verdicts.failure(epoch, 3)).count();
        assert_eq!(fail(0, 2), 0);
        verdicts.success(0);
        assert_eq!(fail(0, 2), 0);
        assert_eq!(fail(0, 9), 1, "once");
        verdicts.begin_anew(2);
        assert_eq!(verdicts.epoch(), 1);
        assert_eq!(fail(0, 9), 0);
        verdicts.success(0);
        assert_eq!(fail(1, 1), 1, "on trial");
        verdicts.begin_anew(2);
        verdicts.success(2);
        assert_eq!(fail(2, 2), 0);
    }
}

#[cfg(all(test, buttress_loom))]
mod models {
    use loom::{sync::Arc, thread};

    use super::*;

    /// However failures of several calls meet, exactly one of them is the one that ejects.
    #[test]
    fn loom_exactly_one_failure_is_the_one_too_many() {
        loom::model(|| {
            let verdicts = Arc::new(Verdicts::new());
            let theirs = Arc::clone(&verdicts);
            let there = thread::spawn(move || (0..2).filter(|_| theirs.failure(0, 3)).count());
            let here = (0..2).filter(|_| verdicts.failure(0, 3)).count();
            assert_eq!(here + there.join().unwrap(), 1);
        });
    }

    /// A new epoch begins while calls of the old one end: it begins with what it was given.
    #[test]
    fn loom_an_old_verdict_changes_nothing() {
        loom::model(|| {
            let verdicts = Arc::new(Verdicts::new());
            let theirs = Arc::clone(&verdicts);
            let there = thread::spawn(move || {
                theirs.failure(0, 9);
                theirs.success(0);
            });
            verdicts.begin_anew(4);
            there.join().unwrap();
            assert_eq!(verdicts.epoch(), 1);
            assert!(verdicts.failure(1, 5));
        });
    }
}
