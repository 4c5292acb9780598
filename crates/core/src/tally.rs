use std::array;

use crate::sync::{AtomicU64, Relaxed};

/// Counts of several things, in lines: each of the first threads has one of its own, which only it writes. The others share
/// the last one.
pub(crate) struct Tally<const LINES: usize, const THINGS: usize>([Line<THINGS>; LINES]);

#[repr(align(64))]
struct Line<const THINGS: usize>([AtomicU64; THINGS]);

impl<const LINES: usize, const THINGS: usize> Tally<LINES, THINGS> {
    pub(crate) fn new() -> Self {
        Self(array::from_fn(|_| Line(array::from_fn(|_| AtomicU64::new(0)))))
    }

    /// Counts one, by the thread of that number.
    #[inline]
    pub(crate) fn add(&self, thread: usize, thing: usize) {
        let count = &self.0[thread.min(LINES - 1)].0[thing];
        if thread < LINES - 1 {
            count.store(count.load(Relaxed) + 1, Relaxed);
        } else {
            count.fetch_add(1, Relaxed);
        }
    }

    pub(crate) fn sum(&self, thing: usize) -> u64 {
        self.0.iter().map(|line| line.0[thing].load(Relaxed)).sum()
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    #[test]
    fn loom_no_count_is_lost_whether_threads_have_lines_or_share_one() {
        loom::model(|| {
            let tally = Arc::new(Tally::<2, 1>::new());
            let others: Vec<_> = [1, 2]
                .into_iter()
                .map(|number| {
                    let tally = tally.clone();
                    thread::spawn(move || tally.add(number, 0))
                })
                .collect();
            tally.add(0, 0);
            let mine = tally.sum(0);
            assert!((1..=3).contains(&mine));
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(tally.sum(0), 3);
        });
    }
}
