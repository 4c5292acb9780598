use std::{
    fmt,
    hash::Hash,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Metric, Observe, Origin, Setting, Value, WeakObserve};

use crate::{Members, config::Nanos, member::Member, pool::Registry};

/// A handle to a balancer: to watch it, and to take endpoints out of the rotation by hand.
///
/// Clones are the same balancer.
pub struct Balancer<K, S> {
    members: Members<K, S>,
}

impl<K, S> Clone for Balancer<K, S> {
    fn clone(&self) -> Self {
        Self { members: self.members.clone() }
    }
}

impl<K, S> Balancer<K, S> {
    pub(crate) const fn new(members: Members<K, S>) -> Self {
        Self { members }
    }

    /// Looks at the endpoints as they are now.
    fn look<R>(&self, look: impl FnOnce(&Registry<K, S>, Nanos) -> R) -> R {
        let pool = &self.members.pool;
        let now = pool.now();
        // Whose time is up is back, whether there are calls or not.
        pool.tick(now);
        look(&pool.registry(), now)
    }
}

impl<K, S> Balancer<K, S>
where
    K: Eq + Hash + Clone + fmt::Display,
{
    /// Takes an endpoint out of the rotation until it is [restored](Self::restore): for a health check, or by hand. Where
    /// less than half of the endpoints are left in the rotation, all are used nevertheless. Calls in flight go on. `false`:
    /// there is none of that key.
    pub fn eject(&self, key: &K) -> bool {
        self.members.mark(key, true)
    }

    /// Takes back an [`eject`](Self::eject), and nothing else: one that was ejected for its failures stays out until its
    /// time is up, since a health check says less than calls do. `false`: there is none of that key.
    pub fn restore(&self, key: &K) -> bool {
        self.members.mark(key, false)
    }

    /// The balancer and its endpoints now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot<K> {
        let pool = &self.members.pool;
        self.look(|registry, now| {
            let endpoint = |(at, member): (usize, &Arc<Member<K, S>>)| {
                let standing = registry.rotation.standings()[at];
                let state = &member.state;
                let latency = f64::from(state.latency(now, &pool.rules.pace)) / 1e9;
                EndpointSnapshot {
                    key: member.key.clone(),
                    state: match standing.ejected_until {
                        Some(until) => {
                            State::Ejected { left: Duration::from_nanos(until.saturating_sub(now)) }
                        }
                        None if standing.marked => State::EjectedByHand,
                        None => State::InRotation,
                    },
                    latency: (latency > 0.0).then(|| Duration::from_secs_f64(latency)),
                    pending: state.pending(),
                    weight: member.endpoint.weight,
                    share: f64::from(state.share(now, pool.settings.slow_start)),
                    successes: state.successes.load(Relaxed),
                    failures: state.failures.load(Relaxed),
                    ejections: state.ejections.load(Relaxed),
                }
            };
            Snapshot {
                panic: registry.panics,
                endpoints: registry.members.iter().enumerate().map(endpoint).collect(),
            }
        })
    }
}

impl<K, S> Observe for Balancer<K, S>
where
    K: Send + Sync + 'static,
    S: Send + Sync + 'static,
{
    fn origin(&self) -> Origin {
        self.members.pool.settings.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.members.pool, |pool| Self { members: Members { pool } })
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges")]
    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let (endpoints, in_rotation, ejected, pending, panics) = self.look(|registry, _| {
            let standings = registry.rotation.standings();
            let ejected = standings.iter().filter(|standing| standing.ejected_until.is_some()).count();
            let pending: u64 = registry.members.iter().map(|member| u64::from(member.state.pending())).sum();
            (registry.members.len(), registry.rotation.in_rotation(), ejected, pending, registry.panics)
        });
        let gauges = [
            ("endpoints", endpoints as f64),
            ("in_rotation", in_rotation as f64),
            ("ejected", ejected as f64),
            ("pending", pending as f64),
            ("panic", f64::from(u8::from(panics))),
        ];
        gauges.into_iter().for_each(|(name, value)| visit(Metric::new(name, Value::Gauge(value))));
        visit(Metric::new("ejections", Value::Counter(self.members.pool.ejections.load(Relaxed))));
        self.origin().observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.members.pool.settings.tell(visit);
    }
}

impl<K, S> fmt::Debug for Balancer<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("members", &self.members).finish()
    }
}

/// A balancer at one moment: from [`Balancer::snapshot`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Snapshot<K> {
    /// Less than half of the endpoints are in the rotation, and all are used.
    pub panic: bool,
    /// In no order.
    pub endpoints: Vec<EndpointSnapshot<K>>,
}

/// An endpoint at one moment.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EndpointSnapshot<K> {
    /// Its key.
    pub key: K,
    /// Whether it gets calls.
    pub state: State,
    /// What a call is expected to take, failures included at what they count for. `None`: nothing was measured lately.
    pub latency: Option<Duration>,
    /// Calls in flight.
    pub pending: u32,
    /// As it was given.
    pub weight: f64,
    /// The share of its calls that it gets while it starts slowly, from 0.1 to 1.
    pub share: f64,
    /// Calls that ended well.
    pub successes: u64,
    /// Calls that failed.
    pub failures: u64,
    /// How often it was ejected for its failures.
    pub ejections: u64,
}

/// Whether an endpoint gets calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It does.
    InRotation,
    /// Not for so long: it has failed too often.
    Ejected {
        /// Until it is tried again.
        left: Duration,
    },
    /// Not until it is restored: by [`Balancer::eject`].
    EjectedByHand,
}
