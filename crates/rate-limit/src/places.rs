//! Where calls wait, and what a server has asked for: everything beside the way of a call that is let through at once.

use std::{
    collections::{HashMap, VecDeque, hash_map},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
};

use crate::{machine::Wait, table::Print};

/// Of which limits units are taken: of those of all calls together, or of a key's.
pub(crate) type Whose = Option<Print>;

/// What a place takes its units from.
pub(crate) trait Source {
    /// Takes units, for one who has waited since then.
    fn take(&self, whose: Whose, units: u32, since: u64, now: u64) -> Result<(), Wait>;
    /// How long until so many units are let through one after the other.
    fn wait(&self, whose: Whose, units: u64, now: u64) -> u64;
}

/// The most calls that wait at one limiter.
const MOST_WAITING: usize = 1 << 16;
/// The most places; what a server asked for is forgotten first.
const MOST_PLACES: usize = 1 << 16;
const SHARDS: usize = 16;

/// The places of those whose calls wait, or that a server has restricted. Most are at none.
#[derive(Debug)]
pub(crate) struct Places {
    /// How many there are. While it is zero nobody looks for one.
    count: AtomicUsize,
    waiting: AtomicUsize,
    shards: Box<[Mutex<HashMap<Whose, Place>>]>,
}

#[derive(Debug, Default)]
struct Place {
    /// In the order in which they came. Who has gone leaves his entry until those before him have gone too.
    queue: VecDeque<Waiter>,
    /// Those that have their units and were not told yet.
    granted: Vec<Granted>,
    /// Units of all that ever came, and of those that stand no more at the front.
    came: u64,
    passed: u64,
    next: u64,
    restriction: Option<Restriction>,
}

#[derive(Debug)]
struct Waiter {
    id: u64,
    /// None: it has gone.
    units: Option<u32>,
    /// What had come with it: the units before it, and its own, are what is from `passed` up to here.
    mark: u64,
    since: u64,
    /// When it will look again by itself.
    rings: u64,
    waker: Option<Waker>,
}

#[derive(Debug)]
struct Granted {
    id: u64,
    taken: u64,
}

/// At most so many units until then.
#[derive(Debug, Clone, Copy)]
struct Restriction {
    units: u32,
    until: u64,
}

/// What became of one who came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    Through,
    /// With that number.
    Waits(u64),
    Refused(Wait),
}

/// What one who waits finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its units were taken then.
    Granted(u64),
    /// To look again after that.
    Waits(u64),
    /// It will not be in time.
    Refused(u64),
}

impl Places {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { count: AtomicUsize::new(0), waiting: AtomicUsize::new(0), shards }
    }

    /// Whether nobody waits and nothing is restricted. One who comes while that changes may be let through before one who
    /// begins to wait; the limits hold either way.
    #[inline]
    pub(crate) fn are_quiet(&self) -> bool {
        self.count.load(Relaxed) == 0
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    #[expect(clippy::cast_possible_truncation, reason = "it is below the count of the shards")]
    fn shard(&self, whose: Whose) -> MutexGuard<'_, HashMap<Whose, Place>> {
        let at = whose.map_or(0, |print| (print.get() % SHARDS as u64) as usize);
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works at a place, which is made for that and removed when it is not needed any more; wakes outside of the lock.
    fn at<R>(&self, whose: Whose, work: impl FnOnce(&mut Place, &mut Vec<Waker>) -> R) -> R {
        let mut wake = Vec::new();
        let result = {
            let mut shard = self.shard(whose);
            let mut entry = match shard.entry(whose) {
                hash_map::Entry::Occupied(entry) => entry,
                hash_map::Entry::Vacant(entry) => {
                    self.count.fetch_add(1, Relaxed);
                    entry.insert_entry(Place::default())
                }
            };
            let result = work(entry.get_mut(), &mut wake);
            if entry.get().is_empty() {
                entry.remove();
                self.count.fetch_sub(1, Relaxed);
            }
            result
        };
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// Takes units, or waits for them where they are there by `until`.
    pub(crate) fn enter(
        &self,
        source: &impl Source,
        whose: Whose,
        units: u32,
        now: u64,
        until: u64,
    ) -> Entered {
        self.at(whose, |place, wake| {
            place.advance(source, whose, now, wake);
            let ahead = place.came - place.passed + u64::from(units);
            let held = place.held(ahead, now);
            let mut refused = None;
            if place.queue.is_empty() && held == 0 {
                match source.take(whose, units, now, now) {
                    Ok(()) => {
                        place.spend(units);
                        return Entered::Through;
                    }
                    Err(None) => return Entered::Refused(None),
                    Err(Some(wait)) => refused = Some(wait),
                }
            }
            let wait = refused.unwrap_or_else(|| source.wait(whose, ahead, now)).max(held);
            if now.saturating_add(wait) > until || until <= now || self.waiting() >= MOST_WAITING {
                return Entered::Refused(Some(wait));
            }
            self.waiting.fetch_add(1, Relaxed);
            place.came += u64::from(units);
            let (id, mark) = (place.next, place.came);
            place.next += 1;
            let rings = now.saturating_add(wait);
            place.queue.push_back(Waiter { id, units: Some(units), mark, since: now, rings, waker: None });
            Entered::Waits(id)
        })
    }

    /// How long one who came now would wait.
    pub(crate) fn wait(&self, source: &impl Source, whose: Whose, units: u32, now: u64) -> u64 {
        let (mut ahead, mut held) = (units.into(), 0);
        if !self.are_quiet()
            && let Some(place) = self.shard(whose).get(&whose)
        {
            ahead += place.came - place.passed;
            held = place.held(ahead, now);
        }
        source.wait(whose, ahead, now).max(held)
    }

    /// Looks whether it is the turn of one who waits.
    pub(crate) fn look(
        &self,
        source: &impl Source,
        whose: Whose,
        id: u64,
        waker: &Waker,
        now: u64,
        until: u64,
    ) -> Standing {
        self.at(whose, |place, wake| {
            place.advance(source, whose, now, wake);
            if let Some(at) = place.granted.iter().position(|granted| granted.id == id) {
                self.waiting.fetch_sub(1, Relaxed);
                return Standing::Granted(place.granted.swap_remove(at).taken);
            }
            let mark = place.waiter(id).expect("it waits, or has been granted").mark;
            let ahead = mark - place.passed;
            let held = place.held(ahead, now);
            if now.saturating_add(held) > until.max(now) {
                return Standing::Refused(held);
            }
            let wait = source.wait(whose, ahead, now).max(held).max(1);
            let waiter = place.waiter(id).expect("it was there");
            if !waiter.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
                waiter.waker = Some(waker.clone());
            }
            waiter.rings = now.saturating_add(wait);
            Standing::Waits(wait)
        })
    }

    /// Leaves, if it still waits. What it returns is when units were taken for it that it does not want any more.
    pub(crate) fn leave(&self, source: &impl Source, whose: Whose, id: u64, now: u64) -> Option<u64> {
        self.at(whose, |place, wake| {
            self.waiting.fetch_sub(1, Relaxed);
            if let Some(at) = place.granted.iter().position(|granted| granted.id == id) {
                return Some(place.granted.swap_remove(at).taken);
            }
            if let Some(waiter) = place.waiter(id) {
                waiter.units = None;
                waiter.waker = None;
            }
            place.advance(source, whose, now, wake);
            None
        })
    }

    /// Looks again after units were given back.
    pub(crate) fn attend(&self, source: &impl Source, whose: Whose, now: u64) {
        if !self.are_quiet() {
            self.at(whose, |place, wake| place.advance(source, whose, now, wake));
        }
    }

    /// Lets at most so many units through until then; what holds already and is stricter stays.
    pub(crate) fn restrict(&self, whose: Whose, units: u32, now: u64, until: u64) {
        if self.count.load(Relaxed) >= MOST_PLACES {
            self.sweep(now);
        }
        self.at(whose, |place, wake| {
            let known = place.restriction.filter(|known| known.until > now);
            let (units, until) = match known {
                Some(known) => (known.units.min(units), known.until.max(until)),
                None => (units, until),
            };
            place.restriction = Some(Restriction { units, until });
            // Each looks whether it can still be in time.
            wake.extend(place.queue.iter_mut().filter_map(|waiter| waiter.waker.take()));
        });
    }

    /// Forgets the restrictions whose time is up, and all of them where that is not enough.
    #[cold]
    fn sweep(&self, now: u64) {
        let forget = |all: bool| {
            for shard in &self.shards {
                let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let before = shard.len();
                shard.retain(|_, place| {
                    if all || place.restriction.is_some_and(|restriction| restriction.until <= now) {
                        place.restriction = None;
                    }
                    !place.is_empty()
                });
                self.count.fetch_sub(before - shard.len(), Relaxed);
            }
        };
        forget(false);
        if self.count.load(Relaxed) >= MOST_PLACES {
            forget(true);
        }
    }
}

impl Place {
    fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.granted.is_empty() && self.restriction.is_none()
    }

    fn waiter(&mut self, id: u64) -> Option<&mut Waiter> {
        let at = self.queue.binary_search_by_key(&id, |waiter| waiter.id).ok()?;
        self.queue.get_mut(at)
    }

    /// How long a restriction holds units back.
    fn held(&self, units: u64, now: u64) -> u64 {
        match self.restriction {
            Some(restriction) if u64::from(restriction.units) < units => {
                restriction.until.saturating_sub(now)
            }
            _ => 0,
        }
    }

    fn spend(&mut self, units: u32) {
        if let Some(restriction) = &mut self.restriction {
            restriction.units = restriction.units.saturating_sub(units);
        }
    }

    /// Grants units to those at the front, as far as they are there; and makes the one who is first then look again in
    /// time.
    fn advance(&mut self, source: &impl Source, whose: Whose, now: u64, wake: &mut Vec<Waker>) {
        if self.restriction.is_some_and(|restriction| restriction.until <= now) {
            self.restriction = None;
        }
        while let Some(first) = self.queue.front() {
            let Waiter { id, mark, since, .. } = *first;
            if let Some(units) = first.units {
                if self.held(units.into(), now) > 0 || source.take(whose, units, since, now).is_err() {
                    break;
                }
                self.spend(units);
                self.granted.push(Granted { id, taken: now });
            }
            self.passed = mark;
            wake.extend(self.queue.pop_front().and_then(|first| first.waker));
        }
        let passed = self.passed;
        if let Some(first) = self.queue.front_mut() {
            // It counted on those before it to stay.
            let turn = now.saturating_add(source.wait(whose, first.mark - passed, now));
            if turn < first.rings {
                first.rings = turn;
                wake.extend(first.waker.take());
            }
        }
    }
}
