use std::{collections::VecDeque, ops::Range};

/// The calls that a batch of so many requests may make: as many as isolate every one of 128, or about 15 of 1,000.
pub(crate) const MOST_CALLS: usize = 256;

/// Which parts of a batch are sent, and in which order: first the whole, then the halves of what failed, the larger parts
/// before the smaller ones. So what is healthy is done first, whatever the poison costs.
#[derive(Debug)]
pub(crate) struct Parts {
    next: VecDeque<Range<usize>>,
    calls: usize,
}

impl Parts {
    /// All of so many requests.
    pub(crate) fn of(requests: usize) -> Self {
        Self { next: VecDeque::from(vec![Range { start: 0, end: requests }]), calls: 0 }
    }

    /// The next part to be sent. None when all are done, or when no more calls may be made.
    pub(crate) fn next(&mut self) -> Option<Range<usize>> {
        if self.calls == MOST_CALLS {
            return None;
        }
        self.calls += 1;
        self.next.pop_front()
    }

    /// A part failed as a whole, and its halves are to be sent.
    pub(crate) fn halve(&mut self, part: Range<usize>) {
        debug_assert!(part.len() > 1, "a single request cannot be halved");
        let middle = part.start + part.len() / 2;
        self.next.push_back(part.start..middle);
        self.next.push_back(middle..part.end);
    }

    /// What was not sent again because no more calls may be made.
    pub(crate) fn rest(self) -> impl Iterator<Item = Range<usize>> {
        self.next.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Sends a batch with that poison; returns who succeeded, who failed alone, who was left over, and the calls made.
    fn send(requests: usize, poison: &BTreeSet<usize>) -> (Vec<usize>, Vec<usize>, Vec<usize>, usize) {
        let (mut done, mut failed, mut calls) = (Vec::new(), Vec::new(), 0);
        let mut parts = Parts::of(requests);
        while let Some(part) = parts.next() {
            calls += 1;
            match (poison.range(part.clone()).next().is_some(), part.len()) {
                (false, _) => done.extend(part),
                (true, 1) => failed.extend(part),
                (true, _) => parts.halve(part),
            }
        }
        (done, failed, parts.rest().flatten().collect(), calls)
    }

    #[test]
    fn one_in_a_hundred_takes_two_calls_a_level() {
        for poison in 0..100 {
            let (done, failed, rest, calls) = send(100, &BTreeSet::from([poison]));
            assert_eq!((done.len(), failed, rest.len()), (99, vec![poison], 0));
            assert!(calls <= 15, "{calls}");
        }
    }

    #[test]
    fn a_batch_that_is_all_poison_ends() {
        let (done, failed, rest, calls) = send(1_000, &(0..1_000).collect());
        assert_eq!((done.len(), failed.len() + rest.len(), calls), (0, 1_000, MOST_CALLS));
        let (_, failed, rest, _) = send(128, &(0..128).collect());
        assert_eq!((failed.len(), rest.len()), (128, 0));
    }

    proptest! {
        #[test]
        fn everybody_is_told_once_and_only_poison_fails(
            requests in 1..2_000_usize,
            poison in proptest::collection::btree_set(0..2_000_usize, 0..40),
        ) {
            let poison: BTreeSet<usize> = poison.into_iter().filter(|at| *at < requests).collect();
            let (done, failed, rest, calls) = send(requests, &poison);
            let all: BTreeSet<usize> = done.iter().chain(&failed).chain(&rest).copied().collect();
            prop_assert_eq!(all.len(), requests);
            prop_assert_eq!(done.len() + failed.len() + rest.len(), requests);
            prop_assert!(failed.iter().all(|at| poison.contains(at)));
            prop_assert!(done.iter().all(|at| !poison.contains(at)));
            let levels = requests.next_power_of_two().trailing_zeros() as usize;
            let enough = 1 + 2 * levels * poison.len();
            prop_assert!(calls <= enough.min(MOST_CALLS));
            if enough <= MOST_CALLS {
                prop_assert!(rest.is_empty());
            }
        }
    }
}
