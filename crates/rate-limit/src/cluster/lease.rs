//! How much a node takes ahead of need, and when it asks: sequential, without a clock, without I/O.

use crate::{Algorithm, Limit, Rate, cluster::purse::Purse};

/// What follows from the limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The units of the limit that has the fewest.
    units: u32,
    /// A call of more can never be admitted.
    pub(crate) most_at_once: u32,
    /// How long a lease lasts, in nanoseconds: an eighth of the shortest period, but at least a millisecond and at most a
    /// second.
    pub(crate) life: u64,
    /// For so long after they were granted, units can be given back: half of the shortest period, so that they surely
    /// count yet. Not at all in a fixed window, which forgets at its edge whatever the age.
    pub(crate) returnable: u64,
    /// Whether there are leases: else each unit is asked for when somebody needs it.
    pub(crate) leases: bool,
}

impl Plan {
    /// All leases together are at most this part of the limit.
    const SHARE: u32 = 16;
    /// A node that is new takes this part of a lease: those who do not know of it yet take as if it were not there.
    const NEW: u32 = 8;
    /// Before the store has told how many nodes there are.
    const NODES_AT_FIRST: u32 = 16;

    pub(crate) fn new(limits: &[Limit], leases: bool) -> Self {
        let least = |of: fn(&Limit) -> u64| limits.iter().map(of).min().unwrap_or(u64::MAX);
        let units = least(|limit| limit.rate().units().into()) as u32;
        let most_at_once = least(|limit| limit.most_at_once().into()).min(Purse::MOST.into()) as u32;
        let period = least(|limit| limit.rate().nanos());
        let is_fixed = limits.iter().any(|limit| limit.algorithm() == Algorithm::FixedWindow);
        let returnable = if is_fixed { 0 } else { period / 2 };
        let life = (period / 8).clamp(1_000_000, 1_000_000_000);
        Self { units, most_at_once, life, returnable, leases }
    }

    /// The most units that a node holds, or has asked for.
    pub(crate) fn cap(&self, crowd: Crowd) -> u32 {
        let (nodes, part) = match crowd {
            Crowd::Unknown => (Self::NODES_AT_FIRST, Self::NEW),
            Crowd::New(nodes) => (nodes, Self::NEW),
            Crowd::Known(nodes) => (nodes, 1),
        };
        let share = u64::from(self.units) / (u64::from(nodes.max(1)) * u64::from(part * Self::SHARE));
        (share as u32).clamp(1, self.most_at_once)
    }

    /// How long the store counts a node that it does not hear of.
    pub(crate) const fn presence(&self) -> u64 {
        let presence = 4 * self.life;
        if presence > 1_000_000_000 { presence } else { 1_000_000_000 }
    }
}

/// What a node knows of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crowd {
    Unknown,
    /// So many, but for less than the life of a lease: others may not know of this node yet.
    New(u32),
    Known(u32),
}

/// Callers that wait, or would if they could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Waiting {
    /// What the first of them needs.
    pub(crate) first: u32,
    /// What all of them need.
    pub(crate) total: u64,
}

/// What is asked of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Want {
    pub(crate) least: u32,
    pub(crate) most: u32,
}

/// What the store said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) asked_at: u64,
    pub(crate) want: Want,
    pub(crate) units: u32,
    /// Nanoseconds, where there were none.
    pub(crate) retry_after: Option<u64>,
    pub(crate) now: u64,
}

/// One node's lease of one limit.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Lease {
    /// Units that callers wanted lately, admitted or not, in a nanosecond.
    demand: f64,
    counted_at: u64,
    /// When somebody was last known to have wanted any.
    wanted_at: u64,
    /// When the units at hand are given back.
    pub(crate) until: u64,
    /// Not asked ahead of need before that.
    resume: u64,
}

impl Lease {
    /// Callers wanted so many units since it was last said.
    pub(crate) fn count(&mut self, wanted: u64, plan: &Plan, now: u64) {
        let passed = now.saturating_sub(self.counted_at) as f64;
        if passed == 0.0 && wanted == 0 {
            return;
        }
        // An average over half a life: of a node that begins, and after a pause, the first look says little.
        let average = plan.life as f64 / 2.0;
        self.demand = (self.demand * average + wanted as f64) / (average + passed);
        self.counted_at = now;
        if wanted > 0 {
            self.wanted_at = now;
        }
    }

    /// So many units it would like to have: what callers want in three quarters of a lease's life, so that most of it is
    /// used.
    pub(crate) fn target(&self, plan: &Plan, cap: u32) -> u32 {
        (self.demand * plan.life as f64 * 0.75).min(cap.into()) as u32
    }

    /// Below which it asks for more: `None` where nothing is taken ahead of need, because there is too little of it.
    pub(crate) fn low(&self, plan: &Plan, cap: u32) -> Option<u32> {
        let target = self.target(plan, cap);
        (plan.leases && target >= 2).then_some(target / 3)
    }

    /// Whether to ask ahead of need. Where nobody has wanted any since the last look, nothing is known to be needed.
    fn is_low(&self, plan: &Plan, cap: u32, left: u32, now: u64) -> bool {
        now.saturating_sub(self.wanted_at) < plan.life / 4
            && self.low(plan, cap).is_some_and(|low| left <= low)
    }

    /// What to ask for now.
    pub(crate) fn want(&self, plan: &Plan, cap: u32, left: u32, waiting: Waiting, now: u64) -> Option<Want> {
        let target = self.target(plan, cap);
        if waiting.total > 0 {
            let least = waiting.first.saturating_sub(left).max(1);
            let most =
                if plan.leases { waiting.total.max(target.into()).min(cap.into()) } else { waiting.total };
            let most = most.min(plan.most_at_once.into()) as u32;
            return Some(Want { least, most: most.saturating_sub(left).max(least) });
        }
        (self.is_low(plan, cap, left, now) && now >= self.resume && target > left)
            .then(|| Want { least: 1, most: target - left })
    }

    /// The store has answered. Where there were none, says until when callers are refused without asking.
    ///
    /// Where it gave less than was wanted, others want it too, and the limit is used up: it asks next when there is
    /// something, but not before a quarter of a life has passed. By up to `spread` of that later, so that nodes take turns.
    pub(crate) fn answered(&mut self, plan: &Plan, answer: Answer, spread: f64) -> Option<u64> {
        let Answer { asked_at, want, units, retry_after, now } = answer;
        if !plan.leases {
            return None;
        }
        if units > 0 {
            self.until = asked_at + plan.life;
        }
        if units >= want.most {
            self.resume = 0;
            return None;
        }
        let pause = plan.life as f64 / 4.0;
        let rested = asked_at + (pause * (1.0 + spread / 4.0)) as u64;
        // Also where it is not said when there will be some: it must not be asked without a pause.
        self.resume = rested;
        if units > 0 {
            return None;
        }
        let there = now.saturating_add(retry_after?).saturating_add((pause * spread / 8.0) as u64);
        self.resume = there.max(rested);
        Some(self.resume)
    }

    /// Nothing is asked for ahead of need before that.
    pub(crate) fn put_off(&mut self, until: u64) {
        self.resume = self.resume.max(until);
    }

    /// When to look at it again, if nothing happens.
    pub(crate) fn next_look(&self, plan: &Plan, cap: u32, left: u32, now: u64) -> Option<u64> {
        let ask = self.is_low(plan, cap, left, now).then_some(self.resume.max(now));
        let end = (left > 0).then_some(self.until);
        ask.into_iter().chain(end).min()
    }
}

/// What is one node's part of a limit, where so many share it: at least a unit.
pub(crate) fn part_of(limit: Limit, nodes: u32) -> Limit {
    let nodes = nodes.max(1);
    let rate = limit.rate();
    let part = |units: u32| (units / nodes).max(1);
    let Ok(rate) = Rate::try_new(part(rate.units()), rate.period()) else { return limit };
    let part = match limit.algorithm() {
        Algorithm::SlidingWindow => Ok(Limit::sliding_window(rate)),
        Algorithm::FixedWindow => Ok(Limit::fixed_window(rate)),
        Algorithm::SlidingLog => Limit::sliding_log(rate),
        // So small a part of so great a burst may take more than a year to come back.
        Algorithm::Gcra { burst } => Limit::gcra(rate, part(burst)).or_else(|_| Limit::gcra(rate, 1)),
    };
    part.unwrap_or(limit)
}

#[cfg(all(test, not(buttress_loom)))]
mod tests;
