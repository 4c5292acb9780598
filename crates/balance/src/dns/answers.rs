//! From answers to endpoints: what has appeared and what is gone.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use super::{Ttl, error::Why, lookup::Answer};

/// No more addresses of one name are used: the lowest. An answer of the DNS has room for some thousands.
pub(crate) const MAX_ADDRESSES: usize = 1_000;

/// The last good answer, each family by itself.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    v4: BTreeSet<IpAddr>,
    v6: BTreeSet<IpAddr>,
}

/// What the last lookup changed.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) appeared: Vec<IpAddr>,
    pub(crate) gone: Vec<IpAddr>,
    /// For how long the answer holds.
    pub(crate) ttl: Duration,
}

/// Nothing has changed, and the last good answer is as old as it was.
#[derive(Debug)]
pub(crate) struct Missed {
    pub(crate) why: Why,
    /// Until then the servers would say the same.
    pub(crate) not_before: Duration,
}

impl Answers {
    /// An answer needs an address: a name that has lost all of them is more often a mistake than the truth. A family that
    /// got no answer keeps what it had, one that has no address by what the servers say loses it.
    pub(crate) fn take(&mut self, answers: [Answer; 2], bounds: Ttl) -> Result<News, Missed> {
        let shortest = answers.iter().filter_map(Answer::ttl).min();
        if !answers.iter().any(Answer::has_addresses) {
            let why = answers.into_iter().find_map(Answer::why).unwrap_or(Why::Nothing);
            let not_before = shortest.map_or(Duration::ZERO, |ttl| bounds.within(ttl));
            return Err(Missed { why, not_before });
        }
        let before = self.used();
        let [v4, v6] = answers;
        v4.replace(&mut self.v4);
        v6.replace(&mut self.v6);
        let now = self.used();
        Ok(News {
            appeared: now.difference(&before).copied().collect(),
            gone: before.difference(&now).copied().collect(),
            ttl: bounds.within(shortest.unwrap_or_default()),
        })
    }

    /// How many addresses there are, used or not.
    pub(crate) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn used(&self) -> BTreeSet<IpAddr> {
        self.v4.iter().chain(&self.v6).copied().take(MAX_ADDRESSES).collect()
    }
}

impl Answer {
    fn has_addresses(&self) -> bool {
        matches!(self, Self::Addresses(addresses, _) if !addresses.is_empty())
    }

    fn ttl(&self) -> Option<u32> {
        match self {
            Self::Addresses(_, ttl) => Some(*ttl),
            Self::Nothing(ttl) => *ttl,
            Self::Failed(_) => None,
        }
    }

    fn why(self) -> Option<Why> {
        if let Self::Failed(why) = self { Some(why) } else { None }
    }

    fn replace(self, family: &mut BTreeSet<IpAddr>) {
        match self {
            Self::Addresses(addresses, _) => *family = addresses.into_iter().collect(),
            Self::Nothing(_) => family.clear(),
            Self::Failed(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Ttl = Ttl { floor: Duration::from_secs(1), ceiling: Duration::from_secs(300) };

    fn v4(last: impl IntoIterator<Item = u16>) -> Vec<IpAddr> {
        last.into_iter()
            .map(|last| IpAddr::from([10, 0, last.to_be_bytes()[0], last.to_be_bytes()[1]]))
            .collect()
    }

    fn v6(last: u16) -> IpAddr {
        IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])
    }

    fn failed() -> Answer {
        Answer::Failed(Why::TimedOut)
    }

    #[test]
    fn only_the_difference_is_news() {
        let mut answers = Answers::default();
        let news = answers.take([Answer::Addresses(v4([1, 2]), 9), Answer::Nothing(None)], BOUNDS).unwrap();
        assert_eq!((news.appeared, news.gone), (v4([1, 2]), vec![]));
        let news =
            answers.take([Answer::Addresses(v4([3, 2, 2]), 9), Answer::Nothing(None)], BOUNDS).unwrap();
        assert_eq!((news.appeared, news.gone), (v4([3]), v4([1])));
        let news = answers.take([Answer::Addresses(v4([2, 3]), 9), Answer::Nothing(None)], BOUNDS).unwrap();
        assert_eq!((news.appeared, news.gone), (vec![], vec![]));
    }

    #[test]
    fn a_family_without_an_answer_keeps_its_addresses() {
        let mut answers = Answers::default();
        answers.take([Answer::Addresses(v4([1]), 9), Answer::Addresses(vec![v6(1)], 9)], BOUNDS).unwrap();
        let news = answers.take([Answer::Addresses(v4([2]), 9), failed()], BOUNDS).unwrap();
        assert_eq!((news.appeared, news.gone), (v4([2]), v4([1])));
        let news = answers.take([Answer::Addresses(v4([2]), 9), Answer::Nothing(None)], BOUNDS).unwrap();
        assert_eq!((news.appeared, news.gone), (vec![], vec![v6(1)]));
    }

    #[test]
    fn an_answer_without_an_address_changes_nothing() {
        let mut answers = Answers::default();
        answers.take([Answer::Addresses(v4([1]), 9), Answer::Nothing(None)], BOUNDS).unwrap();
        for nothing in [
            [Answer::Nothing(Some(60)), Answer::Nothing(Some(30))],
            [failed(), Answer::Nothing(Some(30))],
            [Answer::Addresses(vec![], 30), failed()],
        ] {
            assert_eq!(answers.take(nothing, BOUNDS).unwrap_err().not_before, Duration::from_secs(30));
        }
        assert_eq!(answers.take([failed(), failed()], BOUNDS).unwrap_err().not_before, Duration::ZERO);
        let news = answers.take([Answer::Addresses(v4([1]), 9), Answer::Nothing(None)], BOUNDS).unwrap();
        assert_eq!((news.appeared, news.gone), (vec![], vec![]));
    }

    #[test]
    fn a_ttl_keeps_to_its_bounds_and_the_shorter_one_counts() {
        for (four, six, ttl) in [(0, 0, 1), (60, 9, 9), (9, 60, 9), (u32::MAX, u32::MAX, 300)] {
            let mut answers = Answers::default();
            let both = [Answer::Addresses(v4([1]), four), Answer::Addresses(vec![v6(1)], six)];
            assert_eq!(answers.take(both, BOUNDS).unwrap().ttl, Duration::from_secs(ttl));
        }
    }

    #[test]
    fn of_too_many_addresses_the_lowest_are_used_in_whatever_order_they_come() {
        let mut answers = Answers::default();
        let news = answers.take([Answer::Addresses(v4((0..3_000).rev()), 9), failed()], BOUNDS).unwrap();
        assert_eq!(news.appeared, v4(0..1_000));
        assert_eq!(answers.len(), 3_000);
        let news = answers.take([Answer::Addresses(v4(1..3_000), 9), failed()], BOUNDS).unwrap();
        assert_eq!((news.appeared, news.gone), (v4([1_000]), v4([0])));
    }
}
