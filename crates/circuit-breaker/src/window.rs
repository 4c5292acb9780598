use crate::trip::{Kind, Window};

/// What was counted: `failed` and `slow` are parts of `calls`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
}

impl Tally {
    pub(crate) const fn is_clean(self) -> bool {
        self.failed == 0 && self.slow == 0
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.calls += more.calls;
        self.failed += more.failed;
        self.slow += more.slow;
    }

    fn subtract(&mut self, less: Self) {
        self.calls -= less.calls;
        self.failed -= less.failed;
        self.slow -= less.slow;
    }
}

/// A window that slides, at a cost that does not depend on how many calls it holds.
#[derive(Debug)]
pub(crate) enum Sliding {
    Calls(LastCalls),
    Time(LastBuckets),
}

impl Sliding {
    pub(crate) fn new(window: Window) -> Self {
        match window.0 {
            Kind::Calls(n) => Self::Calls(LastCalls::new(n as usize)),
            Kind::Time(length) => Self::Time(LastBuckets::new(Buckets::of(length))),
        }
    }

    pub(crate) fn tally(&self) -> Tally {
        match self {
            Self::Calls(calls) => calls.tally,
            Self::Time(buckets) => buckets.sum,
        }
    }

    /// Whether one more good call would change nothing.
    pub(crate) fn is_full_of_successes(&self) -> bool {
        match self {
            Self::Calls(calls) => calls.tally.is_clean() && calls.tally.calls == calls.capacity() as u64,
            Self::Time(_) => false,
        }
    }

    /// The same calls in a window of another size, as many of them as it reaches back to; none where calls become time.
    pub(crate) fn resized(self, window: Window) -> Self {
        match (self, window.0) {
            (Self::Calls(calls), Kind::Calls(n)) => Self::Calls(calls.resized(n as usize)),
            (Self::Time(buckets), Kind::Time(length)) => Self::Time(buckets.resized(Buckets::of(length))),
            _ => Self::new(window),
        }
    }

    pub(crate) fn clear(&mut self) {
        match self {
            Self::Calls(calls) => calls.clear(),
            Self::Time(buckets) => buckets.clear(),
        }
    }
}

/// The last `n` calls, two bytes each.
#[derive(Debug)]
pub(crate) struct LastCalls {
    ring: Box<[Bits]>,
    next: usize,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bits {
    failed: bool,
    slow: bool,
}

impl LastCalls {
    fn new(n: usize) -> Self {
        Self { ring: vec![Bits::default(); n].into(), next: 0, tally: Tally::default() }
    }

    const fn capacity(&self) -> usize {
        self.ring.len()
    }

    fn clear(&mut self) {
        self.ring.fill(Bits::default());
        (self.next, self.tally) = (0, Tally::default());
    }

    fn resized(self, n: usize) -> Self {
        if n == self.capacity() {
            return self;
        }
        let mut resized = Self::new(n);
        let calls = self.tally.calls as usize;
        let oldest = self.next + self.capacity() - calls;
        for i in calls.saturating_sub(n)..calls {
            resized.push(self.ring[(oldest + i) % self.capacity()]);
        }
        resized
    }

    /// Adds calls that ended since the last ones, the last of them a bad one if there was any. How the others followed
    /// each other is not known; they are spread evenly, so that whatever part the window keeps has their rate.
    pub(crate) fn add(&mut self, more: Tally) {
        // More than the window holds push each other out.
        for i in more.calls.saturating_sub(self.capacity() as u64)..more.calls {
            self.push(Bits {
                failed: is_one_of(more.failed, i, more.calls),
                slow: is_one_of(more.slow, i, more.calls),
            });
        }
    }

    fn push(&mut self, new: Bits) {
        let old = std::mem::replace(&mut self.ring[self.next], new);
        self.next = (self.next + 1) % self.ring.len();
        // A slot that was never written holds a good call, which is what is forgotten while the window fills.
        if self.tally.calls < self.ring.len() as u64 {
            self.tally.calls += 1;
        }
        self.tally.failed = self.tally.failed + u64::from(new.failed) - u64::from(old.failed);
        self.tally.slow = self.tally.slow + u64::from(new.slow) - u64::from(old.slow);
    }
}

/// Whether the `i`th of `whole` calls is one of the `part` that are spread evenly over them, up to the last.
pub(crate) const fn is_one_of(part: u64, i: u64, whole: u64) -> bool {
    (i + 1) * part / whole > i * part / whole
}

/// How a length of time is cut: into buckets of a power of two of nanoseconds, so that finding one is a shift.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buckets {
    shift: u32,
    count: u64,
}

impl Buckets {
    pub(crate) fn of(length: std::time::Duration) -> Self {
        let nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        let shift = (nanos / 8).ilog2();
        // One more, since the newest is only partly lived.
        Self { shift, count: nanos.div_ceil(1 << shift) + 1 }
    }

    pub(crate) fn of_window(window: Window) -> Option<Self> {
        match window.0 {
            Kind::Time(length) => Some(Self::of(length)),
            Kind::Calls(_) => None,
        }
    }

    /// A bucket is two to this power of nanoseconds long.
    pub(crate) const fn shift(self) -> u32 {
        self.shift
    }

    #[cfg(all(test, not(buttress_loom)))]
    pub(crate) const fn index(self, nanos: u64) -> u64 {
        nanos >> self.shift
    }
}

/// The calls of the last buckets of time.
#[derive(Debug)]
pub(crate) struct LastBuckets {
    split: Buckets,
    ring: Box<[Tally]>,
    newest: u64,
    sum: Tally,
}

impl LastBuckets {
    fn new(split: Buckets) -> Self {
        let ring = vec![Tally::default(); usize::try_from(split.count).unwrap_or(usize::MAX)].into();
        Self { split, ring, newest: 0, sum: Tally::default() }
    }

    fn clear(&mut self) {
        self.ring.fill(Tally::default());
        (self.newest, self.sum) = (0, Tally::default());
    }

    fn resized(self, split: Buckets) -> Self {
        if split == self.split {
            return self;
        }
        let mut resized = Self::new(split);
        let oldest = (self.newest + 1).saturating_sub(self.split.count);
        for bucket in oldest..=self.newest {
            // A long bucket becomes the first of the short ones that it was.
            let at = u128::from(bucket) << self.split.shift >> split.shift;
            let tally = self.ring[(bucket % self.split.count) as usize];
            resized.add(u64::try_from(at).unwrap_or(u64::MAX), tally);
        }
        resized
    }

    /// The bucket of this window in which a bucket of two to the power of `shift` nanoseconds lies, which is not longer.
    pub(crate) const fn of_shared(&self, bucket: u64, shift: u32) -> u64 {
        bucket >> (self.split.shift - shift)
    }

    /// Forgets what is older than the window before that bucket. Time that goes back is ignored.
    pub(crate) fn advance(&mut self, to: u64) {
        let steps = to.saturating_sub(self.newest).min(self.split.count);
        let first = to - steps + u64::from(steps > 0);
        for index in first..first + steps {
            let slot = (index % self.split.count) as usize;
            self.sum.subtract(std::mem::take(&mut self.ring[slot]));
        }
        self.newest = self.newest.max(to);
    }

    /// Adds calls that ended in that bucket; nothing where it is no longer in the window.
    pub(crate) fn add(&mut self, bucket: u64, more: Tally) {
        self.advance(bucket);
        if self.newest - bucket < self.split.count {
            self.ring[(bucket % self.split.count) as usize].add(more);
            self.sum.add(more);
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{collections::VecDeque, time::Duration};

    use proptest::prelude::*;

    use super::*;

    /// Keeps every call.
    #[derive(Default)]
    struct Naive(VecDeque<(u64, bool, bool)>);

    impl Naive {
        fn tally(&self) -> Tally {
            let count = |f: fn(&&(u64, bool, bool)) -> bool| self.0.iter().filter(f).count() as u64;
            Tally { calls: self.0.len() as u64, failed: count(|c| c.1), slow: count(|c| c.2) }
        }
    }

    proptest! {
        #[test]
        fn last_calls_equal_a_list_of_them(
            n in 1..130_usize, batches in prop::collection::vec((0..300_u64, 0..4_u64, 0..4_u64), 0..60),
        ) {
            let mut window = LastCalls::new(n);
            let mut naive = Naive::default();
            for (good, failed, slow) in batches {
                let calls = good + failed;
                let slow = slow.min(calls);
                window.add(Tally { calls, failed, slow });
                naive.0.extend((0..calls).map(|i| (0, is_one_of(failed, i, calls), is_one_of(slow, i, calls))));
                while naive.0.len() > n {
                    naive.0.pop_front();
                }
                prop_assert_eq!(window.tally, naive.tally());
            }
        }

        #[test]
        fn every_part_of_a_batch_has_its_rate(part in 0..300_u64, more in 0..300_u64, from: prop::sample::Index) {
            let whole = part + more;
            prop_assume!(whole > 0);
            let count = |from| (from..whole).filter(|i| is_one_of(part, *i, whole)).count() as u64;
            prop_assert_eq!(count(0), part);
            prop_assert!(part == 0 || is_one_of(part, whole - 1, whole), "the last is one of them");
            let from = from.index(usize::try_from(whole)?) as u64;
            let expected = (whole - from) * part;
            prop_assert!(count(from) * whole < expected + whole && count(from) * whole + whole > expected);
        }

        #[test]
        fn last_buckets_equal_a_list_of_calls(
            length in 1_000_000..u64::from(u32::MAX),
            calls in prop::collection::vec((0..u64::from(u32::MAX), 0..3_u64, any::<bool>(), any::<bool>()), 0..80),
        ) {
            let split = Buckets::of(Duration::from_nanos(length));
            let mut window = LastBuckets::new(split);
            let mut naive = Naive::default();
            let mut now = 0;
            for (step, late, failed, slow) in calls {
                now += step / 16;
                let bucket = split.index(now);
                window.advance(bucket);
                let at = bucket.saturating_sub(late);
                window.add(at, Tally { calls: 1, failed: failed.into(), slow: slow.into() });
                naive.0.push_back((at, failed, slow));
                naive.0.retain(|call| bucket - call.0 < split.count);
                prop_assert_eq!(window.sum, naive.tally());
            }
        }

        #[test]
        fn a_window_of_another_size_holds_the_last_of_it(
            n in 1..60_usize, m in 1..60_usize, calls in prop::collection::vec((any::<bool>(), any::<bool>()), 0..150),
            more in prop::collection::vec((any::<bool>(), any::<bool>()), 0..80),
        ) {
            let mut window = LastCalls::new(n);
            let mut naive = Naive::default();
            let push = |window: &mut LastCalls, naive: &mut Naive, (failed, slow), most| {
                window.push(Bits { failed, slow });
                naive.0.push_back((0, failed, slow));
                while naive.0.len() > most {
                    naive.0.pop_front();
                }
            };
            calls.into_iter().for_each(|call| push(&mut window, &mut naive, call, n));
            let mut window = window.resized(m);
            while naive.0.len() > m {
                naive.0.pop_front();
            }
            prop_assert_eq!(window.tally, naive.tally());
            for call in more {
                push(&mut window, &mut naive, call, m);
                prop_assert_eq!(window.tally, naive.tally());
            }
        }

        #[test]
        fn a_window_of_another_length_holds_what_it_reaches_back_to(
            from in 1_000_000..100_000_000_u64, to in 1_000_000..100_000_000_u64,
            ages in prop::collection::vec(0..200_000_000_u64, 0..60),
        ) {
            let (from, to) = (Duration::from_nanos(from), Duration::from_nanos(to));
            let now = 10_000_000_000_u64;
            let mut window = LastBuckets::new(Buckets::of(from));
            window.advance(window.split.index(now));
            for age in &ages {
                window.add(window.split.index(now - age), Tally { calls: 1, failed: 1, slow: 0 });
            }
            let resized = window.resized(Buckets::of(to));
            let count = |most: u128| ages.iter().filter(|age| u128::from(**age) <= most).count() as u64;
            let both = from.min(to).as_nanos();
            // At least what both windows hold, less a bucket of the old one; at most what either could hold.
            let bucket = 1_u128 << Buckets::of(from).shift;
            prop_assert!(resized.sum.calls >= count(both.saturating_sub(bucket)));
            prop_assert!(resized.sum.calls <= count(both + both / 2 + bucket));
        }

        #[test]
        fn buckets_keep_a_call_for_the_window_and_at_most_a_quarter_longer(length in 1_000_000..86_400_000_000_000_u64) {
            let split = Buckets::of(Duration::from_nanos(length));
            let bucket = 1 << split.shift;
            prop_assert!((8..=17).contains(&(split.count - 1)), "{}", split.count);
            // Forgotten at the latest when `count` whole buckets have passed, at the earliest with one fewer.
            prop_assert!((split.count - 1) * bucket >= length);
            prop_assert!(split.count * bucket <= length + length / 4 + 16);
        }
    }

    #[test]
    fn a_jump_in_time_costs_no_more_than_the_ring() {
        let mut window = LastBuckets::new(Buckets::of(Duration::from_secs(1)));
        window.add(3, Tally { calls: 5, failed: 2, slow: 1 });
        window.advance(u64::MAX / 2);
        assert_eq!(window.sum, Tally::default());
    }
}
