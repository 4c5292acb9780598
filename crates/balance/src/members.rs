use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    mem,
    sync::{Arc, Weak, atomic::Ordering::Relaxed},
};

use crate::{
    Change, Endpoint,
    config::Nanos,
    event::Event,
    member::{Member, State},
    pool::{self, Discovery, Pool, Registry},
    sticky,
};

/// The endpoints of a balancer, to be changed: from [`Balance::members`](crate::Balance::members).
///
/// Clones are the same. It does not keep a balancer's discovery alive.
pub struct Members<K, S> {
    pub(crate) pool: Arc<Pool<K, S>>,
}

impl<K, S> Clone for Members<K, S> {
    fn clone(&self) -> Self {
        Self { pool: Arc::clone(&self.pool) }
    }
}

impl<K, S> Members<K, S> {
    /// How many there are, in the rotation or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pool.registry().members.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Endpoints have been looked for, and these are all: calls do not wait for the first one any more. Every change says
    /// so too.
    pub fn discovered(&self) {
        self.found(|discovery| *discovery != Discovery::Done, Discovery::Done);
    }

    /// Endpoints have been looked for, and that has failed: calls do not wait for the first one any more. Those that are
    /// known stay, and changes may follow.
    pub fn failed(&self) {
        self.found(|discovery| *discovery == Discovery::Pending, Discovery::Failed);
    }

    fn found(&self, is_news: impl FnOnce(&Discovery) -> bool, what: Discovery) {
        self.pool.change(self.pool.now(), |registry, change| {
            if is_news(&registry.discovery) {
                registry.discovery = what;
                change.publishes = true;
            }
        });
    }
}

impl<K, S> Members<K, S>
where
    K: Eq + Hash + Clone + fmt::Display,
{
    /// Carries out a change. Calls that begin afterwards see it; so do those that wait for an endpoint.
    ///
    /// An endpoint that replaces one of the same key takes over what is known about that: its latency, an ejection, a
    /// mark. Calls in flight on an endpoint that is replaced or removed end as they would have.
    ///
    /// # Panics
    /// When the key's `Eq`, `Hash` or `Display` does; then nothing is changed.
    pub fn apply(&self, change: Change<K, S>) {
        let now = self.pool.now();
        match change {
            Change::Insert(key, endpoint) => {
                let member = self.member(key, endpoint);
                self.pool.change(now, |registry, change| {
                    let at = registry.members.iter().position(|other| other.key == member.key);
                    self.put(registry, change, at, member);
                });
            }
            Change::Remove(key) => self.pool.change(now, |registry, change| {
                let at = registry.members.iter().position(|member| member.key == key);
                if let Some(at) = at {
                    change.gone.push(registry.members.swap_remove(at));
                    registry.rotation.remove(at);
                }
                change.publishes = at.is_some() || registry.discovery != Discovery::Done;
                registry.discovery = Discovery::Done;
            }),
        }
    }

    /// Makes these all endpoints there are, in one step. Of several with the same key, the last one is taken. Those that are
    /// not among them are removed, those that are, replaced, as by [`apply`](Self::apply).
    ///
    /// # Panics
    /// As [`apply`](Self::apply).
    pub fn replace(&self, all: Vec<(K, Endpoint<S>)>) {
        let mut new: HashMap<K, Arc<Member<K, S>>> = HashMap::with_capacity(all.len());
        let mut order = Vec::with_capacity(all.len());
        for (key, endpoint) in all {
            let member = self.member(key.clone(), endpoint);
            if new.insert(key.clone(), member).is_none() {
                order.push(key);
            }
        }
        self.pool.change(self.pool.now(), |registry, change| {
            // First all that keys have a part in: should one panic, nothing has changed yet.
            let known: Vec<_> = registry.members.iter().map(|member| new.remove(&member.key)).collect();
            let unknown: Vec<_> = order.iter().filter_map(|key| new.remove(key)).collect();
            // From the end, where what takes the place of one that goes has been looked at.
            for (at, member) in known.into_iter().enumerate().rev() {
                if let Some(member) = member {
                    self.put(registry, change, Some(at), member);
                } else {
                    change.gone.push(registry.members.swap_remove(at));
                    registry.rotation.remove(at);
                }
            }
            for member in unknown {
                self.put(registry, change, None, member);
            }
            change.publishes = true;
            registry.discovery = Discovery::Done;
        });
    }

    fn member(&self, key: K, endpoint: Endpoint<S>) -> Arc<Member<K, S>> {
        let label = key.to_string().into();
        let hash = sticky::hash(&key);
        let pool = Weak::clone(&self.pool.me);
        let (began, pace) = (self.pool.began, self.pool.rules.pace);
        Arc::new(Member { key, label, hash, endpoint, pool, began, pace, state: State::new() })
    }

    fn put(
        &self,
        registry: &mut Registry<K, S>,
        change: &mut pool::Change<K, S>,
        at: Option<usize>,
        member: Arc<Member<K, S>>,
    ) {
        if let Some(at) = at {
            let old = mem::replace(&mut registry.members[at], member);
            registry.members[at].state.inherit(&old.state);
            change.gone.push(old);
        } else {
            let settled_at: Nanos = change.now.saturating_add(self.pool.settings.slow_start);
            member.state.settled_at.store(settled_at, Relaxed);
            registry.members.push(member);
            registry.rotation.insert(change.now);
        }
        change.publishes = true;
        registry.discovery = Discovery::Done;
    }

    pub(crate) fn mark(&self, key: &K, marked: bool) -> bool {
        self.pool.change(self.pool.now(), |registry, change| {
            let Some(at) = registry.members.iter().position(|member| member.key == *key) else {
                return false;
            };
            if registry.rotation.mark(at, marked, change.now) {
                let member = &registry.members[at];
                if registry.rotation.standings()[at].is_in_rotation() {
                    self.pool.admit(member, change.now, 0);
                }
                let event = if marked { Event::Marked } else { Event::Restored };
                change.events.push((Arc::clone(member), event));
                change.publishes = true;
            }
            true
        })
    }
}

impl<K, S> fmt::Debug for Members<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = self.pool.registry();
        f.debug_list().entries(registry.members.iter().map(|member| &member.label)).finish()
    }
}
