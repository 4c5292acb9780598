use crate::cluster::lease::{Crowd, Plan};

/// What a node knows of how many there are.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Roll {
    /// The most that the store told of lately; zero before it told.
    nodes: u32,
    seen_at: u64,
    /// Since when the store has known of this node; zero while it does not.
    known_since: u64,
    told_at: u64,
}

impl Roll {
    /// A smaller number is believed only when none greater was told for so long: a store that lost its memory, or a node
    /// that was not heard of for a moment, must not make others take more.
    const BELIEVED_AFTER: u64 = 10_000_000_000;

    pub(crate) fn crowd(&self, plan: &Plan, now: u64) -> Crowd {
        if self.known_since == 0 || now.saturating_sub(self.told_at) >= plan.presence() {
            Crowd::Unknown
        } else if now.saturating_sub(self.known_since) < plan.life {
            Crowd::New(self.nodes)
        } else {
            Crowd::Known(self.nodes)
        }
    }

    /// Whether to say that this node is there.
    pub(crate) fn is_due(&self, plan: &Plan, now: u64, is_free: bool) -> bool {
        plan.leases && is_free || self.told_at == 0 || now.saturating_sub(self.told_at) >= plan.presence() / 4
    }

    /// The store was told then, and says how many there are.
    pub(crate) fn told(&mut self, nodes: u32, asked_at: u64, plan: &Plan) {
        if nodes == 0 {
            return;
        }
        if self.known_since == 0 || asked_at.saturating_sub(self.told_at) >= plan.presence() {
            self.known_since = asked_at;
        }
        self.told_at = asked_at;
        if nodes >= self.nodes || asked_at.saturating_sub(self.seen_at) >= Self::BELIEVED_AFTER {
            (self.nodes, self.seen_at) = (nodes, asked_at);
        }
    }

    /// The store may have forgotten all nodes.
    pub(crate) fn begin_anew(&mut self) {
        self.known_since = 0;
    }

    /// At least this one.
    pub(crate) fn nodes(&self) -> u32 {
        self.nodes.max(1)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::*;
    use crate::{Limit, Rate, clock::START};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_node_is_new_for_one_life() {
        let plan = Plan::new(&[Limit::from(Rate::per_second(800))], true);
        let mut roll = Roll::default();
        assert_eq!((roll.crowd(&plan, START), roll.nodes()), (Crowd::Unknown, 1));
        roll.told(3, START, &plan);
        assert_eq!(roll.crowd(&plan, START + plan.life - 1), Crowd::New(3));
        assert_eq!(roll.crowd(&plan, START + plan.life), Crowd::Known(3));
        roll.told(2, START + SECOND / 2, &plan);
        assert_eq!(roll.crowd(&plan, START + SECOND), Crowd::Known(3), "not believed yet");
        // It has not been heard of for so long that the store does not count it.
        let later = START + SECOND / 2 + plan.presence();
        assert_eq!(roll.crowd(&plan, later), Crowd::Unknown);
        roll.told(4, later, &plan);
        assert_eq!(roll.crowd(&plan, later), Crowd::New(4));
        roll.begin_anew();
        assert_eq!(roll.crowd(&plan, later), Crowd::Unknown);
        roll.told(1, later + 10 * SECOND, &plan);
        assert_eq!(roll.nodes(), 1);
    }

    #[test]
    fn without_leases_it_is_told_now_and_then() {
        let plan = Plan::new(&[Limit::from(Rate::per_second(800))], false);
        let mut roll = Roll::default();
        assert!(roll.is_due(&plan, START, true));
        roll.told(1, START, &plan);
        assert!(!roll.is_due(&plan, START + plan.presence() / 4 - 1, true));
        assert!(roll.is_due(&plan, START + plan.presence() / 4, true));
        let plan = Plan::new(&[Limit::from(Rate::per_second(800))], true);
        assert!(roll.is_due(&plan, START, true) && !roll.is_due(&plan, START, false));
    }
}
