use std::sync::Arc;

use crate::sync::{AtomicU64, Relaxed};

/// How many bytes of bodies may be kept at a time while they arrive: slow readers keep what the memory has let go.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        Self(AtomicU64::new(bytes))
    }

    pub(crate) fn take(self: &Arc<Self>, bytes: u64) -> Option<Taken> {
        let mut taken = Taken { budget: self.clone(), bytes: 0 };
        taken.more(bytes).then_some(taken)
    }
}

/// A part of it, which comes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Taken {
    /// Says whether there was as much left.
    pub(crate) fn more(&mut self, bytes: u64) -> bool {
        let less = |left: u64| left.checked_sub(bytes);
        let is_left = self.budget.0.fetch_update(Relaxed, Relaxed, less).is_ok();
        if is_left {
            self.bytes += bytes;
        }
        is_left
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Relaxed);
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use loom::thread;

    use super::*;

    #[test]
    fn loom_never_more_is_taken_than_there_is_and_all_comes_back() {
        loom::model(|| {
            let budget = Arc::new(Budget::new(3));
            let shared = budget.clone();
            let takes = thread::spawn(move || {
                let taken = shared.take(2);
                taken.map(|mut taken| (taken.more(1), taken))
            });
            let mine = budget.take(2);
            let theirs = takes.join().unwrap();
            let sum = |taken: &Taken| taken.bytes;
            let taken = mine.as_ref().map_or(0, sum) + theirs.as_ref().map_or(0, |(_, taken)| sum(taken));
            assert!((2..=3).contains(&taken));
            drop((mine, theirs));
            assert!(budget.take(3).is_some());
        });
    }

    #[test]
    fn loom_what_comes_back_meanwhile_is_not_lost() {
        loom::model(|| {
            let budget = Arc::new(Budget::new(2));
            let taken = budget.take(1);
            let gives = thread::spawn(move || drop(taken));
            let mine = budget.take(1);
            gives.join().unwrap();
            drop(mine.unwrap());
            assert!(budget.take(2).is_some() && budget.take(2).is_some());
        });
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let budget = Arc::new(Budget::new(10));
        let mut taken = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        assert!(taken.more(4) && !taken.more(1));
        drop(taken);
        assert!(budget.take(10).is_some());
    }
}
