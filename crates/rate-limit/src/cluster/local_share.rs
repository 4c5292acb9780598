use std::sync::Arc;

use crate::{
    Limit,
    cluster::lease::part_of,
    machine::{Machine, State},
};

/// One node's part of the limits, for when the store is away.
///
/// What the store gives is taken from it too: a node that has had its part has none when the store goes away.
#[derive(Debug)]
pub(crate) struct LocalShare {
    limits: Arc<[Limit]>,
    nodes: u32,
    parts: Box<[(Machine, State)]>,
    /// Admitted here, which the store does not know of.
    untold: u32,
}

impl LocalShare {
    /// A sliding window is cut into so many parts: there may be one of these for each key.
    const PARTS: u32 = 16;

    pub(crate) fn new(limits: Arc<[Limit]>, nodes: u32) -> Self {
        let parts = limits
            .iter()
            .map(|limit| {
                let machine = Machine::cut(part_of(*limit, nodes), Self::PARTS);
                (machine, machine.idle())
            })
            .collect();
        Self { limits, nodes, parts, untold: 0 }
    }

    /// Takes the units from the part of each limit, or from none; else says how long until they are there, or `None` where
    /// they can never be.
    pub(crate) fn take(&mut self, units: u32, nodes: u32, now: u64) -> Result<(), Option<u64>> {
        self.share_with(nodes, now);
        for at in 0..self.parts.len() {
            let (machine, state) = &mut self.parts[at];
            if let Err(wait) = machine.take(state, units, now) {
                for (machine, state) in &mut self.parts[..at] {
                    machine.give_back(state, units, now, now);
                }
                return Err(wait);
            }
        }
        self.untold = self.untold.saturating_add(units);
        Ok(())
    }

    /// The store has given so many units.
    pub(crate) fn charge(&mut self, units: u32, nodes: u32, now: u64) {
        self.share_with(nodes, now);
        for (machine, state) in &mut self.parts {
            let units = units.min(machine.available(state, now));
            if units > 0 {
                // It was just seen that there are so many.
                let _ = machine.take(state, units, now);
            }
        }
    }

    /// What was admitted here and still counts, but the store has not been told.
    pub(crate) fn untold(&self, now: u64) -> u32 {
        let counts = self.parts.iter().zip(&*self.limits).map(|((machine, state), limit)| {
            part_of(*limit, self.nodes).most_at_once() - machine.available(state, now)
        });
        counts.max().unwrap_or(0).min(self.untold)
    }

    /// The store has been told of so many, and of all that did not count any more.
    pub(crate) fn told(&mut self, units: u32, now: u64) {
        self.untold = self.untold(now).saturating_sub(units);
    }

    /// Whether it has forgotten everything.
    pub(crate) fn is_idle(&self, now: u64) -> bool {
        self.parts.iter().all(|(machine, state)| machine.idle_after(state, now) == 0)
    }

    /// What counts already counts on: in full, as far as the new part has room for it.
    fn share_with(&mut self, nodes: u32, now: u64) {
        if nodes == self.nodes {
            return;
        }
        let old = std::mem::replace(self, Self::new(Arc::clone(&self.limits), nodes));
        self.untold = old.untold;
        for (((machine, state), part), limit) in self.parts.iter_mut().zip(&*old.parts).zip(&*old.limits) {
            let used = part_of(*limit, old.nodes).most_at_once() - part.0.available(&part.1, now);
            let used = used.min(machine.available(state, now));
            if used > 0 {
                let _ = machine.take(state, used, now);
            }
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::{Rate, clock::START};

    const SECOND: u64 = 1_000_000_000;

    fn share(units: u32, nodes: u32) -> LocalShare {
        LocalShare::new([Limit::from(Rate::per_second(units))].into(), nodes)
    }

    #[test]
    fn a_part_is_the_limit_by_the_nodes_but_at_least_a_unit() {
        let mut part = share(80, 8);
        assert_eq!((0..20).filter(|_| part.take(1, 8, START).is_ok()).count(), 10);
        assert!(part.take(1, 8, START).unwrap_err().is_some_and(|wait| wait <= 2 * SECOND));
        assert!(part.take(1, 8, START + 2 * SECOND).is_ok());
        assert_eq!(part.take(11, 8, START + 2 * SECOND), Err(None));
        assert!(share(3, 8).take(1, 8, START).is_ok());
    }

    #[test]
    fn what_the_store_gave_is_taken_from_it() {
        let mut part = share(80, 8);
        part.charge(7, 8, START);
        assert!(part.take(4, 8, START).is_err() && part.take(3, 8, START).is_ok());
        part.charge(100, 8, START);
        assert_eq!(part.untold(START), 3, "the store knows of the rest");
        part.told(2, START);
        assert_eq!(part.untold(START), 1);
    }

    #[test]
    fn another_number_of_nodes_forgets_nothing() {
        let mut part = share(80, 8);
        (0..10).for_each(|_| part.take(1, 8, START).unwrap());
        assert!(part.take(1, 4, START).is_ok());
        assert_eq!((0..20).filter(|_| part.take(1, 4, START).is_ok()).count(), 9);
        assert!(part.take(1, 16, START).is_err());
        assert!(!part.is_idle(START) && part.is_idle(START + 3 * SECOND));
        assert_eq!(part.untold(START + 3 * SECOND), 0, "it does not count any more");
    }

    #[test]
    fn of_several_limits_all_are_taken_or_none() {
        let limits = [Limit::from(Rate::per_second(10)), Limit::from(Rate::per_minute(4))];
        let mut part = LocalShare::new(limits.into(), 1);
        part.take(3, 1, START).unwrap();
        for _ in 0..100 {
            assert!(part.take(2, 1, START).is_err());
        }
        part.take(1, 1, START).unwrap();
        assert!(part.take(1, 1, START + 3 * SECOND).is_err(), "the minute's");
    }

    #[test]
    fn every_algorithm_has_parts() {
        let year = Rate::try_new(15, Rate::MAX_PERIOD).unwrap();
        for (limit, nodes, at_once) in [
            (Limit::sliding_log(Rate::per_second(16)).unwrap(), 4, 4),
            (Limit::fixed_window(Rate::per_second(16)), 4, 4),
            (Limit::gcra(Rate::per_second(100), 16).unwrap(), 4, 4),
            (Limit::gcra(Rate::per_second(100), 2).unwrap(), 4, 1),
            (Limit::gcra(year, 15).unwrap(), 8, 1),
        ] {
            assert_eq!(part_of(limit, nodes).most_at_once(), at_once, "{limit:?}");
            assert_eq!(part_of(limit, 0).rate(), limit.rate());
        }
    }
}
