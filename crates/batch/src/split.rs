use std::{collections::VecDeque, ops::Range};

/// Which parts of a batch are sent, and in which order: first the whole, then the halves of what failed, the larger parts
/// before the smaller ones. So what is healthy is done first, whatever the poison costs: twice as many calls as there are
/// requests, at the worst.
#[derive(Debug)]
pub(crate) struct Parts {
    next: VecDeque<Range<usize>>,
}

impl Parts {
    /// All of so many requests.
    pub(crate) fn of(requests: usize) -> Self {
        Self { next: VecDeque::from(vec![Range { start: 0, end: requests }]) }
    }

    /// The next part to be sent. None when all are done.
    pub(crate) fn next(&mut self) -> Option<Range<usize>> {
        self.next.pop_front()
    }

    /// A part failed as a whole, and its halves are to be sent.
    pub(crate) fn halve(&mut self, part: Range<usize>) {
        debug_assert!(part.len() > 1, "a single request cannot be halved");
        let middle = part.start + part.len() / 2;
        self.next.push_back(part.start..middle);
        self.next.push_back(middle..part.end);
    }

    /// What was not sent again because the service is not ready any more.
    pub(crate) fn rest(self) -> impl Iterator<Item = Range<usize>> {
        self.next.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Sends a batch with that poison; returns who succeeded, who failed alone, and the calls made.
    fn send(requests: usize, poison: &BTreeSet<usize>) -> (Vec<usize>, Vec<usize>, usize) {
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
        (done, failed, calls)
    }

    #[test]
    fn one_in_a_hundred_takes_two_calls_a_level() {
        for poison in 0..100 {
            let (done, failed, calls) = send(100, &BTreeSet::from([poison]));
            assert_eq!((done.len(), failed), (99, vec![poison]));
            assert!(calls <= 15, "{calls}");
        }
    }

    #[test]
    fn a_batch_that_is_all_poison_takes_twice_as_many_calls() {
        let (done, failed, calls) = send(1_000, &(0..1_000).collect());
        assert_eq!((done.len(), failed.len(), calls), (0, 1_000, 1_999));
    }

    proptest! {
        #[test]
        fn everybody_is_told_once_and_only_poison_fails(
            requests in 1..2_000_usize,
            poison in proptest::collection::btree_set(0..2_000_usize, 0..40),
        ) {
            let poison: BTreeSet<usize> = poison.into_iter().filter(|at| *at < requests).collect();
            let (done, failed, calls) = send(requests, &poison);
            let all: BTreeSet<usize> = done.iter().chain(&failed).copied().collect();
            prop_assert_eq!((all.len(), done.len() + failed.len()), (requests, requests));
            prop_assert_eq!(failed.into_iter().collect::<BTreeSet<_>>(), poison.clone());
            let levels = requests.next_power_of_two().trailing_zeros() as usize;
            prop_assert!(calls <= 1 + 2 * levels * poison.len());
        }
    }
}
