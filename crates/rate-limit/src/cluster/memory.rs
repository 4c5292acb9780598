use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{
    Algorithm, Limit, clock,
    cluster::{Ask, Grant, Store, Subject},
    machine::{Machine, State},
};

/// A store in this process's memory, which all clones share: for several limiters in one process, and for tests.
///
/// A subject is forgotten some time after its past does not matter any more. Until then it takes memory: a kilobyte for
/// each sliding window. So the number of keys is bounded only by what comes in a period; behind a limiter that is not
/// leased, that is what clients send.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    subjects: HashMap<Subject, Held>,
    /// Nodes of each name, and until when they count.
    nodes: HashMap<String, HashMap<u64, u64>>,
    /// Subjects are looked through when there are so many.
    sweep_at: usize,
}

struct Held {
    limits: Arc<[Limit]>,
    machines: Box<[(Machine, State)]>,
}

impl MemoryStore {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Store for MemoryStore {
    type Error = Infallible;

    async fn take(&self, asks: Vec<Ask>) -> Vec<Result<Grant, Infallible>> {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::now();
        asks.into_iter().map(|ask| Ok(memory.decide(&ask, now))).collect()
    }
}

impl Memory {
    fn decide(&mut self, ask: &Ask, now: u64) -> Grant {
        let nodes = self.nodes(ask, now);
        self.sweep(now);
        if ask.most == 0 && !self.subjects.contains_key(&ask.subject) {
            let left = ask.limits.iter().map(|limit| limit.most_at_once()).min().unwrap_or(0);
            return Grant::of(0, left, nodes);
        }
        let held = self.subjects.entry(ask.subject.clone()).or_insert_with(|| Held::new(&ask.limits));
        if held.limits != ask.limits {
            *held = Held::new(&ask.limits);
        }
        held.give_back(ask.returned, now);
        let left = held.left(now);
        let units = left.min(ask.most);
        if units < ask.least {
            return Grant::none(held.wait(ask.least, now), left, nodes);
        }
        if units > 0 {
            for (machine, state) in &mut held.machines {
                // It was just seen that there are so many.
                let _ = machine.take(state, units, now);
            }
        }
        Grant::of(units, left - units, nodes)
    }

    fn nodes(&mut self, ask: &Ask, now: u64) -> u32 {
        let Some(node) = ask.node else { return 0 };
        let nodes = self.nodes.entry(ask.subject.name().to_owned()).or_default();
        nodes.retain(|_, until| *until > now);
        if node.lease.is_zero() {
            nodes.remove(&node.id);
        } else {
            nodes.insert(
                node.id,
                now.saturating_add(u64::try_from(node.lease.as_nanos()).unwrap_or(u64::MAX)),
            );
        }
        u32::try_from(nodes.len()).unwrap_or(u32::MAX)
    }

    fn sweep(&mut self, now: u64) {
        if self.subjects.len() >= self.sweep_at.max(1_024) {
            self.subjects.retain(|_, held| !held.is_idle(now));
            self.sweep_at = 2 * self.subjects.len();
        }
    }
}

impl Held {
    fn new(limits: &Arc<[Limit]>) -> Self {
        let machines = limits.iter().map(|limit| {
            let machine = Machine::new(*limit);
            (machine, machine.idle())
        });
        Self { machines: machines.collect(), limits: Arc::clone(limits) }
    }

    fn left(&self, now: u64) -> u32 {
        self.machines.iter().map(|(machine, state)| machine.available(state, now)).min().unwrap_or(0)
    }

    /// Which grant they are of, nobody says. In a sliding window they are taken for the oldest: so what counts never counts
    /// for a shorter time than it should. In a fixed window they count only where they must be of this one, because no
    /// unit is given back later than two lives of a lease after it was taken.
    fn give_back(&mut self, units: u32, now: u64) {
        if units == 0 {
            return;
        }
        for ((machine, state), limit) in self.machines.iter_mut().zip(&*self.limits) {
            let taken = match limit.algorithm() {
                Algorithm::FixedWindow => now.saturating_sub(oldest_lease(*limit)),
                _ => 0,
            };
            machine.give_back(state, units, taken, now);
        }
    }

    fn wait(&self, units: u32, now: u64) -> Option<Duration> {
        let can_be = self.limits.iter().all(|limit| units <= limit.most_at_once());
        let waits = self.machines.iter().map(|(machine, state)| machine.wait(state, units.into(), now));
        waits.max().filter(|_| can_be).map(Duration::from_nanos)
    }

    fn is_idle(&self, now: u64) -> bool {
        self.machines.iter().all(|(machine, state)| machine.idle_after(state, now) == 0)
    }
}

fn oldest_lease(limit: Limit) -> u64 {
    (limit.rate().nanos() / 4).clamp(2_000_000, 2_000_000_000)
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("MemoryStore").field("subjects", &memory.subjects.len()).finish_non_exhaustive()
    }
}
