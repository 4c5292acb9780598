//! Which endpoint a call goes to.

use std::sync::Arc;

use crate::{
    config::Nanos,
    load::Pace,
    member::{Member, State},
    sticky,
};

/// By what endpoints are compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) pace: Pace,
    pub(crate) slow_start: Nanos,
    pub(crate) bound: Option<f64>,
}

impl Rules {
    /// The endpoint for a call with this key, if it has one.
    #[inline]
    pub(crate) fn choose<'a, K, S>(
        &self,
        among: &'a [Arc<Member<K, S>>],
        key: Option<u64>,
        now: Nanos,
    ) -> Option<&'a Arc<Member<K, S>>> {
        match key {
            None => self.better_of_two(among, now),
            Some(key) => sticky::owner(among, key, self.bound, now),
        }
    }

    /// All endpoints that a call with this key may wait for, the best first.
    pub(crate) fn order<K, S>(
        &self,
        among: &[Arc<Member<K, S>>],
        key: Option<u64>,
        now: Nanos,
    ) -> Vec<Arc<Member<K, S>>> {
        match key {
            None => {
                let mut all: Vec<_> =
                    among.iter().map(|member| (self.absolute(member, now), member)).collect();
                all.sort_by(|(one, _), (other, _)| one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)));
                all.into_iter().map(|(_, member)| Arc::clone(member)).collect()
            }
            // Who wants to go to one endpoint waits for that.
            Some(key) => {
                let owner = sticky::owner(among, key, self.bound, now).map(Arc::clone);
                let others = self.bound.map(|_| among.iter().map(Arc::clone)).into_iter().flatten();
                let mut all: Vec<_> = owner.into_iter().chain(others).collect();
                if let Some((first, others)) = all.split_first_mut() {
                    others
                        .sort_by(|one, other| sticky::score(other, key).total_cmp(&sticky::score(one, key)));
                    let first = Arc::clone(first);
                    let mut seen = false;
                    all.retain(|member| !Arc::ptr_eq(member, &first) || !std::mem::replace(&mut seen, true));
                }
                all
            }
        }
    }

    fn absolute<K, S>(&self, member: &Member<K, S>, now: Nanos) -> (bool, f32) {
        let state = &member.state;
        let cost = state.cost(state.latency(now, &self.pace), member.endpoint.weight);
        (state.is_avoided(now), cost / state.share(now, self.slow_start))
    }

    /// Mitzenmacher's power of two choices: two at random, and the one that costs less.
    #[inline]
    fn better_of_two<'a, K, S>(
        &self,
        among: &'a [Arc<Member<K, S>>],
        now: Nanos,
    ) -> Option<&'a Arc<Member<K, S>>> {
        let count = among.len();
        if count < 2 {
            return among.first();
        }
        let first = fastrand::usize(..count);
        let second = fastrand::usize(..count - 1);
        let second = second + usize::from(second >= first);
        let (one, other) = (&among[first], &among[second]);
        Some(match (one.state.is_avoided(now), other.state.is_avoided(now)) {
            (false, false) => self.cheaper(one, other, now),
            (false, true) => one,
            (true, false) => other,
            (true, true) => {
                let turned = among[first..].iter().chain(&among[..first]);
                turned.into_iter().find(|member| !member.state.is_avoided(now)).unwrap_or(one)
            }
        })
    }

    #[inline]
    fn cheaper<'a, K, S>(
        &self,
        one: &'a Arc<Member<K, S>>,
        other: &'a Arc<Member<K, S>>,
        now: Nanos,
    ) -> &'a Arc<Member<K, S>> {
        // Who starts slowly is passed over so often that what is left is its share. By its cost alone it would have none,
        // where there is little to do.
        let (share, other_share) =
            (one.state.share(now, self.slow_start), other.state.share(now, self.slow_start));
        if share != other_share {
            if share < other_share && fastrand::f32() * other_share >= share {
                return other;
            }
            if other_share < share && fastrand::f32() * share >= other_share {
                return one;
            }
        }
        let (mine, others) = self.compared(&one.state, &other.state, now);
        let cost = one.state.cost(mine, one.endpoint.weight);
        if cost <= other.state.cost(others, other.endpoint.weight) { one } else { other }
    }

    /// What two latencies are taken for, beside each other.
    ///
    /// One that was not measured yet is taken to be as fast as the other. One that fades does so until it looks as fast as
    /// the other, or as fast as it was, and no further: else one that hangs would look better and better, and get all calls.
    #[inline]
    fn compared(&self, one: &State, other: &State, now: Nanos) -> (f32, f32) {
        let (mine, others) = (one.load.look(now, &self.pace), other.load.look(now, &self.pace));
        match (mine.faded > 0.0, others.faded > 0.0) {
            (true, true) if mine.faded < others.faded => (mine.measured.min(others.faded), others.faded),
            (true, true) => (mine.faded, others.measured.min(mine.faded)),
            (true, false) => (mine.faded, unmeasured(one, mine.faded)),
            (false, true) => (unmeasured(other, others.faded), others.faded),
            (false, false) => (1.0, 1.0),
        }
    }
}

/// What one that was not measured yet is taken for, beside one that takes so long.
///
/// Beside one that fails it is the better choice: it costs less until it has three calls that it did not answer. As equals,
/// every other attempt of a retry would go to the one that has just failed.
#[inline]
fn unmeasured(beside: &State, latency: f32) -> f32 {
    if beside.verdicts.is_failing() { latency / 2.0 } else { latency }
}

#[cfg(all(test, not(buttress_loom)))]
#[path = "pick_tests.rs"]
mod tests;
