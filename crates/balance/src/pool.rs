//! The endpoints of a balancer: who they are, who is in the rotation, and the list that calls choose from.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::Decision;
use tokio::time::Instant;

use crate::{
    config::{Nanos, Settings, nanos},
    event::{Cause, Event},
    load::Pace,
    member::Member,
    pick::Rules,
    rotation::{INTERVAL, Rotation},
    shown::Shown,
    sync::Looked,
};

/// What looks for endpoints until it is dropped.
pub(crate) type Discovering = Arc<dyn Any + Send + Sync>;

/// Whether endpoints have been looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Discovery {
    Pending,
    Done,
    Failed,
}

type Candidates<K, S> = Box<[Arc<Member<K, S>>]>;

/// What calls choose from. It is replaced as a whole.
#[derive(Debug)]
pub(crate) struct View<K, S> {
    pub(crate) candidates: Candidates<K, S>,
    /// In the rotation, but in another zone: for when all candidates are left alone.
    pub(crate) far: Candidates<K, S>,
    pub(crate) discovery: Discovery,
}

#[derive(Debug)]
pub(crate) struct Pool<K, S> {
    pub(crate) settings: Settings,
    pub(crate) rules: Rules,
    pub(crate) me: Weak<Self>,
    pub(crate) began: Instant,
    pub(crate) shown: Shown<View<K, S>>,
    /// When the rotation has something to do by itself.
    due: AtomicU64,
    pub(crate) ejections: AtomicU64,
    registry: Mutex<Registry<K, S>>,
}

#[derive(Debug)]
pub(crate) struct Registry<K, S> {
    /// In the order of the rotation's standings.
    pub(crate) members: Vec<Arc<Member<K, S>>>,
    pub(crate) rotation: Rotation,
    pub(crate) discovery: Discovery,
    pub(crate) panics: bool,
}

/// What has been changed under the lock, and is told or dropped after it.
pub(crate) struct Change<K, S> {
    pub(crate) now: Nanos,
    pub(crate) publishes: bool,
    pub(crate) events: Vec<(Arc<Member<K, S>>, Event)>,
    pub(crate) gone: Vec<Arc<Member<K, S>>>,
}

impl<K, S> Pool<K, S> {
    pub(crate) fn new(settings: Settings) -> Arc<Self> {
        let rotation = Rotation::new(settings.ejection);
        let rules =
            Rules { pace: Pace::new(settings.decay), slow_start: settings.slow_start, bound: settings.bound };
        Arc::new_cyclic(|me| Self {
            rules,
            me: Weak::clone(me),
            began: Instant::now(),
            shown: Shown::new(View {
                candidates: Box::default(),
                far: Box::default(),
                discovery: Discovery::Pending,
            }),
            due: AtomicU64::new(if settings.ejection.is_off() { Nanos::MAX } else { INTERVAL }),
            ejections: AtomicU64::new(0),
            registry: Mutex::new(Registry {
                members: Vec::new(),
                rotation,
                discovery: Discovery::Pending,
                panics: false,
            }),
            settings,
        })
    }

    pub(crate) fn note(&self, what: &'static str, why: impl FnOnce() -> String) {
        Decision::note(self.settings.origin, what, why);
    }

    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        self.at(Instant::now())
    }

    #[inline]
    pub(crate) fn at(&self, instant: Instant) -> Nanos {
        nanos(instant.saturating_duration_since(self.began))
    }

    pub(crate) fn instant(&self, at: Nanos) -> Instant {
        self.began + Duration::from_nanos(at)
    }

    #[inline]
    pub(crate) fn view(&self) -> Looked<View<K, S>> {
        self.shown.look()
    }

    /// The endpoint for a call, where there is one.
    #[inline]
    pub(crate) fn pick(&self, key: Option<u64>, now: Nanos) -> Option<Arc<Member<K, S>>> {
        if now >= self.due.load(Relaxed) {
            self.try_tick(now);
        }
        let view = self.view();
        let chosen = self.rules.choose(&view.candidates, key, now)?;
        // Such a one is chosen only where there is no other.
        if !view.far.is_empty() && chosen.state.is_avoided(now) {
            let far = self.rules.choose(&view.far, key, now);
            return far.filter(|far| !far.state.is_avoided(now)).or(Some(chosen)).map(Arc::clone);
        }
        Some(Arc::clone(chosen))
    }

    /// Does what is due, unless somebody is about it.
    #[cold]
    fn try_tick(&self, now: Nanos) {
        let registry = match self.registry.try_lock() {
            Ok(registry) => registry,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        self.change_in(registry, now, |registry, change| self.tick_in(registry, change));
    }

    /// Does what is due.
    pub(crate) fn tick(&self, now: Nanos) {
        self.change(now, |registry, change| self.tick_in(registry, change));
    }

    fn tick_in(&self, registry: &mut Registry<K, S>, change: &mut Change<K, S>) {
        for index in registry.rotation.bring_back(change.now) {
            let member = &registry.members[index];
            change.publishes = true;
            if registry.rotation.standings()[index].is_in_rotation() {
                // On trial: one failure more is too much.
                self.admit(member, change.now, self.settings.ejection.consecutive - 1);
            } else {
                member.state.verdicts.begin_anew(self.settings.ejection.consecutive - 1);
            }
            change.events.push((Arc::clone(member), Event::Returned));
        }
        let Registry { members, rotation, .. } = registry;
        for outlier in rotation.outliers(change.now, |index| members[index].state.tally()) {
            let cause = Cause::SuccessRate { rate: outlier.rate, mean: outlier.mean };
            self.eject_in(registry, change, outlier.index, cause);
        }
    }

    /// It begins anew: what was measured is forgotten, and it starts slowly.
    pub(crate) fn admit(&self, member: &Member<K, S>, now: Nanos, failures: u32) {
        member.state.load.forget();
        member.state.settled_at.store(now.saturating_add(self.settings.slow_start), Relaxed);
        member.state.verdicts.begin_anew(failures);
    }

    fn eject_in(
        &self,
        registry: &mut Registry<K, S>,
        change: &mut Change<K, S>,
        index: usize,
        cause: Cause,
    ) -> bool {
        let Some(until) = registry.rotation.eject(index, change.now, fastrand::f64()) else { return false };
        let member = &registry.members[index];
        member.state.verdicts.begin_anew(0);
        member.state.ejections.fetch_add(1, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
        change.publishes = true;
        let time = Duration::from_nanos(until - change.now);
        change.events.push((Arc::clone(member), Event::Ejected { cause, time }));
        true
    }

    /// A member has failed once too often in a row.
    #[cold]
    pub(crate) fn failed_in_a_row(&self, member: &Member<K, S>, epoch: u32, now: Nanos) {
        self.change(now, |registry, change| {
            // Another call may have been here before.
            if member.state.verdicts.epoch() != epoch {
                return;
            }
            let index = registry.members.iter().position(|other| std::ptr::eq(&raw const **other, member));
            let Some(index) = index else { return };
            let cause = Cause::Failures(self.settings.ejection.consecutive);
            if !self.eject_in(registry, change, index, cause) {
                // It may not be now: so many more, and it is asked again.
                member.state.verdicts.settle(epoch);
            }
        });
    }

    /// What the fastest of the others took when it was measured last, in nanoseconds.
    #[cold]
    pub(crate) fn fastest_but(&self, member: &Member<K, S>, now: Nanos) -> Option<f32> {
        let view = self.view();
        let others = view.candidates.iter().filter(|other| !std::ptr::eq(&raw const ***other, member));
        let took = others.map(|other| other.state.load.look(now, &self.rules.pace).measured);
        took.filter(|took| *took > 0.0).min_by(f32::total_cmp)
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry<K, S>> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, and shows it to all calls that begin afterwards.
    pub(crate) fn change<R>(
        &self,
        now: Nanos,
        how: impl FnOnce(&mut Registry<K, S>, &mut Change<K, S>) -> R,
    ) -> R {
        self.change_in(self.registry(), now, how)
    }

    fn change_in<R>(
        &self,
        mut registry: MutexGuard<'_, Registry<K, S>>,
        now: Nanos,
        how: impl FnOnce(&mut Registry<K, S>, &mut Change<K, S>) -> R,
    ) -> R {
        let mut change = Change { now, publishes: false, events: Vec::new(), gone: Vec::new() };
        let result = how(&mut registry, &mut change);
        self.due.store(registry.rotation.due(), Relaxed);
        if !change.publishes {
            return result;
        }
        let panics = registry.rotation.panics();
        let began_or_ended = panics != registry.panics;
        registry.panics = panics;
        let (in_rotation, endpoints) = (registry.rotation.in_rotation(), registry.members.len());
        let [candidates, far] = self.candidates(&registry);
        let new = View { candidates, far, discovery: registry.discovery };
        let old = self.shown.show(new);
        change.gone.iter().for_each(|member| member.state.remove());
        drop(registry);

        // Without the lock: subscribers, wakers and services that are dropped are others' code.
        self.shown.tell();
        for (member, event) in &change.events {
            event.tell(self.settings.origin, &member.label);
        }
        if began_or_ended {
            Event::tell_panic(self.settings.origin, panics, in_rotation, endpoints);
        }
        drop(old);
        drop(change);
        result
    }

    /// Those of the rotation: of the balancer's own zone, as long as half of them are well, and apart the others. If it
    /// panics, all.
    fn candidates(&self, registry: &Registry<K, S>) -> [Candidates<K, S>; 2] {
        let all = || registry.members.iter().zip(registry.rotation.standings());
        if registry.panics {
            return [registry.members.iter().map(Arc::clone).collect(), Box::default()];
        }
        let in_rotation = all().filter(|(_, standing)| standing.is_in_rotation()).map(|(member, _)| member);
        if let Some(zone) = &self.settings.zone {
            let is_near = |member: &Member<K, S>| member.endpoint.zone.as_ref() == Some(zone);
            let (near, far): (Vec<_>, Vec<_>) =
                in_rotation.clone().map(Arc::clone).partition(|member| is_near(member));
            let all_near = all().filter(|(member, _)| is_near(member)).count();
            if !near.is_empty() && 2 * near.len() >= all_near {
                return [near.into(), far.into()];
            }
        }
        [in_rotation.map(Arc::clone).collect(), Box::default()]
    }

    /// When somebody comes back by himself.
    pub(crate) fn returns(&self) -> Option<Nanos> {
        self.registry().rotation.returns()
    }
}
