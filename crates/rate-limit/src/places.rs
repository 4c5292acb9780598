//! Where calls wait, and what a server has asked for: everything beside the way of a call that is let through at once.

use std::{
    collections::{HashMap, hash_map},
    task::Waker,
};

use crate::{
    machine::Wait,
    sync::{AtomicU64, AtomicUsize, Mutex, MutexGuard, Relaxed, SeqCst, fence, lock},
    table::Print,
};

mod place;
mod restrictions;

use self::place::Place;

/// Of which limits units are taken: of those of all calls together, or of a key's.
pub(crate) type Whose = Option<Print>;

/// What a place takes its units from.
pub(crate) trait Source {
    /// Takes units, for one who has waited since then.
    fn take(&self, whose: Whose, units: u32, since: u64, now: u64) -> Result<(), Wait>;
    /// How long until so many units are let through one after the other, counted from that time, which may be to come.
    fn wait(&self, whose: Whose, units: u64, from: u64) -> u64;
    /// Gives units back that were taken then.
    fn give_back(&self, whose: Whose, units: u32, taken: u64, now: u64);
}

/// The most calls that wait at one limiter.
const MOST_WAITING: usize = 1 << 16;
/// The most places; what a server asked for is forgotten first.
const MOST_PLACES: usize = 1 << 16;
/// No restriction lasts longer: a hundred years and more.
const LONGEST: u64 = 1 << 62;
const SHARDS: usize = if cfg!(buttress_loom) { 1 } else { 16 };

/// The places of those whose calls wait, or that a server has restricted. Most are at none.
#[derive(Debug)]
pub(crate) struct Places {
    /// How many there are. While it is zero nobody looks for one.
    count: AtomicUsize,
    waiting: AtomicUsize,
    /// When the last restriction ends; zero where there is none.
    ends: AtomicU64,
    shards: Box<[Mutex<HashMap<Whose, Place>>]>,
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
    /// Its units can never be there any more.
    Never,
    /// To look again after that.
    Waits(u64),
    /// It will not be in time.
    Refused(u64),
}

impl Places {
    pub(crate) fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { count: AtomicUsize::new(0), waiting: AtomicUsize::new(0), ends: AtomicU64::new(0), shards }
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
        lock(&self.shards[at])
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
                    // Then it is looked for units, and whoever gives some back does it the other way round.
                    fence(SeqCst);
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
        self.sweep_after_the_last(now);
        self.at(whose, |place, wake| {
            place.advance(source, whose, now, wake);
            let ahead = place.waiting() + u64::from(units);
            let mut refused = None;
            if place.queue.is_empty() && place.restrictions.hold(ahead, now).is_none() {
                match source.take(whose, units, now, now) {
                    Ok(()) => {
                        place.restrictions.spend(units);
                        return Entered::Through;
                    }
                    Err(None) => return Entered::Refused(None),
                    Err(Some(wait)) => refused = Some(wait),
                }
            }
            let wait = refused.unwrap_or_else(|| place.wait(source, whose, ahead, now));
            let rings = now.saturating_add(wait);
            if rings > until || until <= now || self.waiting() >= MOST_WAITING {
                return Entered::Refused(Some(wait));
            }
            self.waiting.fetch_add(1, Relaxed);
            Entered::Waits(place.push(units, rings))
        })
    }

    /// How long one who came now would wait.
    pub(crate) fn wait(&self, source: &impl Source, whose: Whose, units: u32, now: u64) -> u64 {
        if !self.are_quiet()
            && let Some(place) = self.shard(whose).get(&whose)
        {
            return place.wait(source, whose, place.waiting() + u64::from(units), now);
        }
        source.wait(whose, units.into(), now)
    }

    /// The strictest restriction: its units, and how long it still holds.
    pub(crate) fn restricted(&self, whose: Whose, now: u64) -> Option<(u32, u64)> {
        if self.are_quiet() {
            return None;
        }
        self.shard(whose).get(&whose)?.restrictions.strictest(now)
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
        let waker = waker.clone();
        let (standing, _dropped_outside_of_the_lock) = self.at(whose, |place, wake| {
            place.advance(source, whose, now, wake);
            if let Some(taken) = place.collect(id) {
                self.waiting.fetch_sub(1, Relaxed);
                return (taken.map_or(Standing::Never, Standing::Granted), Some(waker));
            }
            let (ahead, _) = place.waiter(id).expect("it waits, or has been granted");
            let wait = place.wait(source, whose, ahead, now).max(1);
            if place.restrictions.hold(ahead, now).is_some_and(|held| held > until) {
                return (Standing::Refused(wait), Some(waker));
            }
            let (_, waiter) = place.waiter(id).expect("it was there");
            waiter.rings = now.saturating_add(wait);
            if std::mem::take(&mut waiter.by_other_limits) && waiter.rings > until {
                return (Standing::Refused(wait), Some(waker));
            }
            (Standing::Waits(wait), waiter.waker.replace(waker))
        });
        standing
    }

    /// Leaves, if it still waits. What it returns is when units were taken for it that it does not want any more.
    pub(crate) fn leave(&self, source: &impl Source, whose: Whose, id: u64, now: u64) -> Option<u64> {
        let (taken, _dropped_outside_of_the_lock) = self.at(whose, |place, wake| {
            self.waiting.fetch_sub(1, Relaxed);
            if let Some(taken) = place.collect(id) {
                return (taken, None);
            }
            let waker = place.go(id);
            place.advance(source, whose, now, wake);
            (None, waker)
        });
        taken
    }

    /// Gives units back that were taken then and not used, to those who wait for them.
    pub(crate) fn give_back(&self, source: &impl Source, whose: Whose, units: u32, taken: u64, now: u64) {
        source.give_back(whose, units, taken, now);
        // He who begins to wait sees the units, or is seen here.
        fence(SeqCst);
        if !self.are_quiet() {
            self.at(whose, |place, wake| {
                place.restrictions.give_back(units, taken);
                place.advance(source, whose, now, wake);
            });
        }
    }

    /// Lets at most so many units through until then, beside what holds already.
    pub(crate) fn restrict(&self, whose: Whose, units: u32, now: u64, until: u64) {
        if self.count.load(Relaxed) >= MOST_PLACES {
            self.sweep(now);
        }
        let until = until.min(now.saturating_add(LONGEST));
        self.at(whose, |place, wake| {
            place.restrictions.add(units, now, until);
            // Each looks whether it can still be in time, by what is really before it.
            place.forget_gone();
            wake.extend(place.queue.iter_mut().filter_map(|waiter| waiter.waker.take()));
        });
        // Not before: whoever finds it over forgets it, and would not find it.
        self.ends.fetch_max(until, Relaxed);
    }

    /// The limits of all are others now: lets those through who need not wait any more, and makes each of the others look
    /// whether it can still be in time.
    pub(crate) fn look_again(&self, source: &impl Source, now: u64) {
        self.at(None, |place, wake| {
            place.advance(source, None, now, wake);
            place.forget_gone();
            for waiter in &mut place.queue {
                waiter.by_other_limits = true;
                wake.extend(waiter.waker.take());
            }
        });
    }

    /// Nobody else may come to the places of keys that were restricted: without this, all would look for theirs for ever.
    fn sweep_after_the_last(&self, now: u64) {
        let ends = self.ends.load(Relaxed);
        if (1..=now).contains(&ends) && self.ends.compare_exchange(ends, 0, Relaxed, Relaxed).is_ok() {
            self.sweep(now);
        }
    }

    /// Forgets the restrictions whose time is up; and, where that is not enough, those of all keys of which nobody waits.
    #[cold]
    fn sweep(&self, now: u64) {
        let forget = |all: bool| {
            for shard in &self.shards {
                let mut shard = lock(shard);
                let before = shard.len();
                shard.retain(|whose, place| {
                    place.restrictions.forget(now);
                    if all && whose.is_some() && place.queue.is_empty() {
                        place.restrictions.clear();
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

#[cfg(all(test, buttress_loom))]
mod loom_models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
