use std::{
    fmt::Display,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use buttress_core::{Metric, Observe, Origin, Rejected, Value, WeakObserve};

use crate::{
    clock,
    cluster::{
        desk::Desk,
        keys::KeyText,
        shared::{Shared, Step},
    },
};

/// The handle of a cluster-wide limit, which all clones share: to watch it, and for code that is no `Service`.
///
/// When the last handle is gone, and with it all layers and services, what is left of leases goes back to the store.
#[derive(Debug, Clone)]
pub struct ClusterLimiter(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    /// The same as in `shared`, one pointer nearer.
    desk: Arc<Desk>,
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// How a [`ClusterLimiter`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// How many nodes share the limit, as far as the store has told: at least one.
    pub nodes: u32,
    /// Whether the store is away.
    pub store_is_away: bool,
    /// Units that are at hand, of the limiter itself.
    pub leased: u32,
    /// Keys that are remembered.
    pub keys: usize,
    /// Callers that wait for the store.
    pub waiting: usize,
    /// Questions that the store was asked, since the limiter was made: one for a subject and a round trip.
    pub asks: u64,
    /// Round trips to the store: each has one question or more.
    pub round_trips: u64,
    /// Units that were admitted from leases, without the store. Those of keys are counted a little later.
    pub from_leases: u64,
    /// Units of the limiter itself that were refused without asking the store.
    pub refused_locally: u64,
    /// Decisions that the policy made because the store was away.
    pub without_store: u64,
    /// How often the store went away.
    pub absences: u64,
}

impl ClusterLimiter {
    pub(crate) fn new(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        Self(Arc::new(Handle { desk: Arc::clone(&shared.desk), shared }))
    }

    /// Takes units of the limit. A lease decides at once; else it waits for the store, at most for the limiter's
    /// timeout, and not past the caller's [`Deadline`](buttress_core::Deadline).
    ///
    /// Dropped while it waits, it takes nothing: what the store gave it goes back.
    ///
    /// # Errors
    /// [`RateLimited`](buttress_core::Reason::RateLimited) where the limit is reached, with the time after which a call has
    /// a chance, and without it if there are never so many units at once. `DeadlineExceeded` where the caller's deadline
    /// does not leave time for the store. `Overloaded` where 65,536 callers wait already, or the store is away and the
    /// policy is [`FailClosed`](crate::cluster::WhenAway::FailClosed).
    ///
    /// # Panics
    /// Outside of a tokio runtime with a timer, where it has to wait.
    pub async fn acquire(&self, units: u32) -> Result<(), Rejected> {
        match self.enter(units) {
            Step::Admitted => Ok(()),
            Step::Refused(rejected) => Err(rejected),
            Step::Wait(wait) => wait.await,
        }
    }

    /// The same for the limit of a key. What it shows is the key: equal texts are one.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    ///
    /// # Panics
    /// As [`acquire`](Self::acquire).
    pub async fn acquire_for(&self, key: &impl Display, units: u32) -> Result<(), Rejected> {
        match self.enter_for(key, units) {
            Step::Admitted => Ok(()),
            Step::Refused(rejected) => Err(rejected),
            Step::Wait(wait) => wait.await,
        }
    }

    /// Decides on what is at hand, without waiting and without a lock that is held for longer than a moment: for code that
    /// is not `async`, such as the say that others have in a budget.
    ///
    /// A lease at hand admits, and a known refusal refuses. While the store is away the policy decides. Else the call is
    /// refused, and a lease that has room for it is asked for: so of a limiter that was quiet the first call is refused, and
    /// those that come a round trip later are admitted, until nobody has called for the life of a lease. A limiter that is
    /// not [`leased`](crate::cluster::ClusterBuilder::leased) never has anything at hand, nor has a key that there is no
    /// room for: there every call is refused, unless the store is away. The former says so in a warning, once.
    ///
    /// Outside of a tokio runtime it starts no task that speaks with the store: call it inside of one.
    ///
    /// # Errors
    /// [`RateLimited`](buttress_core::Reason::RateLimited) with the time after which a call has a chance: the limiter's
    /// timeout, where a lease was asked for. Without it, if there are never so many units at once, or the limiter is not
    /// leased. `Overloaded` as [`acquire`](Self::acquire), while the store is away.
    pub fn try_acquire(&self, units: u32) -> Result<(), Rejected> {
        let Handle { desk, shared } = &*self.0;
        let now = clock::now();
        shared.step_now(desk, units, desk.decide(units, now), now)
    }

    /// The same for the limit of a key. What it shows is the key: equal texts are one.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    pub fn try_acquire_for(&self, key: &impl Display, units: u32) -> Result<(), Rejected> {
        let shared = &self.0.shared;
        let desk = shared.desk_of(KeyText::of(key).bytes());
        let now = clock::now();
        shared.step_now(&desk, units, desk.decide(units, now), now)
    }

    // Else the compiler leaves it out of line, which costs more than what it does.
    #[inline(always)]
    pub(crate) fn enter(&self, units: u32) -> Step {
        let Handle { desk, shared } = &*self.0;
        let now = clock::now();
        shared.step(desk, units, desk.decide(units, now), now)
    }

    pub(crate) fn enter_for(&self, key: &impl Display, units: u32) -> Step {
        let shared = &self.0.shared;
        let desk = shared.desk_of(KeyText::of(key).bytes());
        let now = clock::now();
        shared.step(&desk, units, desk.decide(units, now), now)
    }

    /// Whether any call of the limiter itself would be refused now.
    #[inline]
    pub(crate) fn is_shut(&self) -> bool {
        self.0.desk.purse.is_shut(clock::now())
    }

    /// How it stands. Takes locks that are held for a moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let Handle { desk, shared } = &*self.0;
        let counts = &shared.counts;
        Snapshot {
            nodes: shared.nodes(),
            store_is_away: shared.is_away(),
            leased: desk.purse.left(clock::now()),
            keys: shared.keys.len(),
            waiting: shared.callers.waiting(),
            asks: counts.asks.load(Relaxed),
            round_trips: counts.round_trips.load(Relaxed),
            from_leases: counts.from_leases.load(Relaxed) + desk.slow().uncounted(desk),
            refused_locally: desk.refused(),
            without_store: counts.alone.load(Relaxed),
            absences: counts.absences.load(Relaxed),
        }
    }
}

impl Observe for ClusterLimiter {
    fn origin(&self) -> Origin {
        self.0.shared.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.0, Self)
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let Snapshot {
            nodes,
            store_is_away,
            leased,
            keys,
            waiting,
            asks,
            round_trips,
            from_leases,
            refused_locally,
            without_store,
            absences,
        } = self.snapshot();
        visit(Metric::new("nodes", Value::Gauge(nodes.into())));
        visit(Metric::new("store_is_away", Value::Gauge(u8::from(store_is_away).into())));
        visit(Metric::new("leased", Value::Gauge(leased.into())));
        visit(Metric::new("keys", Value::Gauge(keys as f64)));
        visit(Metric::new("waiting", Value::Gauge(waiting as f64)));
        visit(Metric::new("asks", Value::Counter(asks)));
        visit(Metric::new("round_trips", Value::Counter(round_trips)));
        visit(Metric::new("from_leases", Value::Counter(from_leases)));
        visit(Metric::new("refused_locally", Value::Counter(refused_locally)));
        visit(Metric::new("without_store", Value::Counter(without_store)));
        visit(Metric::new("absences", Value::Counter(absences)));
        self.origin().observe_rejections(visit);
    }
}
