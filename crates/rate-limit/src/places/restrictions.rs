/// What servers ask of their client: at most so many units until then, and several such at the same time.
#[derive(Debug, Default)]
pub(super) struct Restrictions(Vec<Restriction>);

#[derive(Debug, Clone, Copy)]
struct Restriction {
    units: u32,
    /// What it began with, and when.
    most: u32,
    since: u64,
    until: u64,
}

/// Further ones are made one with that which ends next after them: a server's every answer may bring one.
const MOST: usize = 8;

impl Restrictions {
    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one. Kept are those of which each is stricter than all that last longer; so those with fewer units end first.
    pub(super) fn add(&mut self, units: u32, now: u64, until: u64) {
        self.forget(now);
        if until <= now || self.0.iter().any(|known| known.units <= units && known.until >= until) {
            return;
        }
        self.0.retain(|known| known.units < units || known.until > until);
        let at = self.0.partition_point(|known| known.until < until);
        self.0.insert(at, Restriction { units, most: units, since: now, until });
        if self.0.len() > MOST {
            let gap = |at: &usize| self.0[at + 1].until - self.0[*at].until;
            let at = (0..MOST).min_by_key(gap).unwrap_or(0);
            self.0[at].until = self.0[at + 1].until;
            self.0.remove(at + 1);
        }
    }

    /// Forgets those whose time is up.
    pub(super) fn forget(&mut self, now: u64) {
        self.0.retain(|known| known.until > now);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Until when they hold so many units back, if they do.
    pub(super) fn hold(&self, units: u64, now: u64) -> Option<u64> {
        self.holding(units, now).map(|(until, _)| until).max()
    }

    /// Those that hold so many units back: until when, and how many of them.
    pub(super) fn holding(&self, units: u64, now: u64) -> impl Iterator<Item = (u64, u64)> {
        let holding = self.0.iter().filter(move |known| known.until > now && u64::from(known.units) < units);
        holding.map(move |known| (known.until, units - u64::from(known.units)))
    }

    /// That with the fewest units, and how long it still holds.
    pub(super) fn strictest(&self, now: u64) -> Option<(u32, u64)> {
        let left = self.0.iter().filter(|known| known.until > now);
        left.map(|known| (known.units, known.until - now)).min()
    }

    pub(super) fn spend(&mut self, units: u32) {
        self.0.iter_mut().for_each(|known| known.units = known.units.saturating_sub(units));
    }

    /// For units that were spent then, and not used.
    pub(super) fn give_back(&mut self, units: u32, taken: u64) {
        for known in self.0.iter_mut().filter(|known| known.since <= taken) {
            known.units = known.units.saturating_add(units).min(known.most);
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_holds_for_its_own_time() {
        let mut restrictions = Restrictions::default();
        restrictions.add(50, 0, 1_000);
        restrictions.add(0, 0, 10);
        restrictions.add(60, 0, 900);
        assert_eq!(restrictions.0.len(), 2, "one was weaker than another that lasts longer");
        assert_eq!(restrictions.hold(1, 0), Some(10));
        assert_eq!(restrictions.hold(51, 0), Some(1_000));
        assert_eq!(restrictions.hold(50, 10), None);
        restrictions.spend(20);
        assert_eq!(restrictions.hold(31, 10), Some(1_000));
        restrictions.give_back(30, 0);
        assert_eq!(restrictions.hold(50, 10), None);
        assert_eq!(restrictions.hold(51, 10), Some(1_000), "no more than there were");
    }

    proptest! {
        /// Against a plain list of all of them: the same while there are few, and never weaker.
        #[test]
        fn they_are_as_strict_as_all_together(
            steps in prop::collection::vec((0..5u64, 0..40u32, 1..60u64, 0..4u32), 1..60),
        ) {
            let (mut kept, mut all, mut now) = (Restrictions::default(), Vec::<(u32, u64)>::new(), 0);
            let mut most = 0;
            for (step, units, length, spent) in steps {
                now += step;
                kept.add(units, now, now + length);
                all.push((units, now + length));
                most = most.max(kept.0.len());
                prop_assert!(kept.0.len() <= MOST);
                kept.spend(spent);
                all.iter_mut().for_each(|(units, _)| *units = units.saturating_sub(spent));
                for ask in 0..45u64 {
                    let plain = all.iter().filter(|(units, until)| *until > now && u64::from(*units) < ask);
                    let plain = plain.map(|(_, until)| *until).max();
                    if most < MOST {
                        prop_assert_eq!(kept.hold(ask, now), plain);
                    } else {
                        prop_assert!(kept.hold(ask, now) >= plain);
                    }
                }
            }
        }
    }
}
