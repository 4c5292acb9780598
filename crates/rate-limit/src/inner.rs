//! What a limiter's handles, services and waiting calls share.

use std::{
    fmt::{self, Write},
    hash::{BuildHasher, Hash, RandomState},
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::{Decision, Origin, Reason, Rejected};
use foldhash::{SharedSeed, quality::SeedableRandomState};

use crate::{
    InvalidLimits, Limit, Quota, clock,
    machine::{Machine, Wait},
    meter::Meter,
    places::{Entered, Places, Source, Whose},
    table::{Keys, Print},
};

/// The limits of one limiter, and where its calls wait.
pub(crate) struct Inner {
    pub(crate) origin: Origin,
    /// Of all calls together. Nobody who calls needs them; who changes them holds the lock meanwhile.
    whole: Mutex<Box<[Limit]>>,
    meters: Box<[Meter]>,
    keyed: Option<Keyed>,
    pub(crate) places: Places,
    /// A call of more units can never be let through.
    most: AtomicU32,
}

/// The limits of each key.
struct Keyed {
    limits: Box<[Limit]>,
    keys: Keys,
    hasher: SeedableRandomState,
}

/// Where a call stands that waits: with its number there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stage {
    /// For the units of its key.
    Key(u64),
    /// For those of all; the key's, if it has one, were taken then.
    Whole(u64, u64),
}

#[derive(Debug)]
pub(crate) enum Gate {
    Through,
    Waits(Stage),
    Refused(Wait),
}

impl Inner {
    pub(crate) fn new(origin: Origin, whole: &[Limit], each: &[Limit], capacity: usize) -> Self {
        let keyed = (!each.is_empty()).then(|| {
            // Finer parts would make a key large.
            let machines = each.iter().map(|limit| Machine::cut(*limit, 32)).collect();
            Keyed { limits: each.into(), keys: Keys::new(machines, capacity), hasher: hasher() }
        });
        // The first reading may calibrate a counter: no call should wait for that.
        let _ = clock::now();
        Self {
            origin,
            whole: Mutex::new(whole.into()),
            meters: whole.iter().map(|limit| Meter::new(*limit)).collect(),
            keyed,
            places: Places::new(),
            most: AtomicU32::new(most(whole.iter().chain(each))),
        }
    }

    /// What stands for that key. The key's own code runs here, outside of every lock.
    #[inline]
    pub(crate) fn print(&self, key: &impl Hash) -> Whose {
        let keyed = self.keyed.as_ref()?;
        Some(Print::new(keyed.hasher.hash_one(key)).unwrap_or(Print::MIN))
    }

    pub(crate) fn is_full(&self, now: u64) -> bool {
        self.places.wait(self, None, 1, now) > 0
    }

    /// Takes units where nobody waits.
    // Inlined up to the word that is exchanged, which is a few instructions: else most of the time is spent on the way.
    #[inline(always)]
    pub(crate) fn take_all(&self, whose: Whose, units: u32, now: u64) -> Result<(), Wait> {
        match whose {
            None => self.take_whole(units, now, now),
            Some(_) => self.take_both(whose, units, now),
        }
    }

    #[inline(always)]
    fn take_both(&self, whose: Whose, units: u32, now: u64) -> Result<(), Wait> {
        match self.take(whose, units, now, now) {
            Ok(()) if self.meters.is_empty() => Ok(()),
            taken => self.take_whole_too(taken, whose, units, now),
        }
    }

    /// After the key's units: takes those of all, or says how long both will take.
    #[inline(never)]
    fn take_whole_too(
        &self,
        taken: Result<(), Wait>,
        whose: Whose,
        units: u32,
        now: u64,
    ) -> Result<(), Wait> {
        let refused = match taken {
            Ok(()) => match self.take_whole(units, now, now) {
                Ok(()) => return Ok(()),
                Err(wait) => {
                    self.places.give_back(self, whose, units, now, now);
                    wait.map(|wait| wait.max(self.wait(whose, units.into(), now)))
                }
            },
            Err(wait) => wait.map(|wait| wait.max(self.wait(None, units.into(), now))),
        };
        Err(refused.filter(|_| units <= self.most()))
    }

    #[inline(always)]
    fn take_whole(&self, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        match &*self.meters {
            [meter] => meter.take(units, since, now),
            meters => self.take_several(meters, units, since, now),
        }
    }

    #[inline(never)]
    fn take_several(&self, meters: &[Meter], units: u32, since: u64, now: u64) -> Result<(), Wait> {
        for (at, meter) in meters.iter().enumerate() {
            if meter.take(units, since, now).is_err() {
                meters[..at].iter().for_each(|meter| meter.give_back(units, now, now));
                // It can go when all of them let it.
                return Err((units <= self.most()).then(|| self.wait(None, units.into(), now)));
            }
        }
        Ok(())
    }

    /// Takes units, or a place to wait for them where they are there by `until`.
    #[inline(never)]
    pub(crate) fn enter(&self, whose: Whose, units: u32, now: u64, until: u64) -> Gate {
        if units == 0 {
            return Gate::Through;
        }
        if units > self.most() {
            return Gate::Refused(None);
        }
        if whose.is_none() {
            return self.enter_whole(whose, units, now, now, until);
        }
        let whole = self.places.wait(self, None, units, now);
        if whole > 0 && now.saturating_add(whole) > until {
            return Gate::Refused(Some(whole.max(self.places.wait(self, whose, units, now))));
        }
        match self.places.enter(self, whose, units, now, until) {
            Entered::Through => self.enter_whole(whose, units, now, now, until),
            Entered::Waits(id) => Gate::Waits(Stage::Key(id)),
            Entered::Refused(wait) => Gate::Refused(wait.map(|wait| wait.max(whole))),
        }
    }

    /// The second stage of a call that has its key's units since `taken`.
    pub(crate) fn enter_whole(&self, whose: Whose, units: u32, taken: u64, now: u64, until: u64) -> Gate {
        match self.places.enter(self, None, units, now, until) {
            Entered::Through => Gate::Through,
            Entered::Waits(id) => Gate::Waits(Stage::Whole(id, taken)),
            Entered::Refused(wait) => {
                self.return_key(whose, units, taken, now);
                Gate::Refused(wait)
            }
        }
    }

    /// Gives a key's units back, if it is one's.
    pub(crate) fn return_key(&self, whose: Whose, units: u32, taken: u64, now: u64) {
        if whose.is_some() {
            self.places.give_back(self, whose, units, taken, now);
        }
    }

    /// For one who is refused though units may have come back meanwhile.
    pub(crate) fn refusal(&self, whose: Whose, units: u32) -> Wait {
        let now = clock::now();
        let wait = |whose| self.places.wait(self, whose, units, now);
        (units <= self.most()).then(|| wait(None).max(whose.map_or(0, |print| wait(Some(print)))))
    }

    #[cold]
    pub(crate) fn reject(&self, wait: Wait) -> Rejected {
        Decision::note(self.origin, "refused", || self.in_words(wait));
        reject(self.origin, wait)
    }

    /// Its first limit, and when the next call has a chance.
    fn in_words(&self, wait: Wait) -> String {
        let mut words = match self.limits().next() {
            Some(limit) => format!("{} in {:.1?} are used up", limit.rate().units(), limit.rate().period()),
            None => String::from("its limit is used up"),
        };
        match wait {
            Some(nanos) => _ = write!(words, "; the next in {:.1?}", Duration::from_nanos(nanos)),
            None => words.push_str("; so many at once never have a chance"),
        }
        words
    }

    /// For one whose deadline comes before his turn.
    #[cold]
    pub(crate) fn reject_for_the_deadline(&self, wait: u64) -> Rejected {
        Decision::note(self.origin, "refused", || {
            format!("its turn is in {:.1?}, after the caller's deadline", Duration::from_nanos(wait))
        });
        self.origin.reject(Reason::DeadlineExceeded).with_retry_after(Duration::from_nanos(wait))
    }

    pub(crate) fn quotas(&self, whose: Whose, now: u64) -> Vec<Quota> {
        let of_all = self.places.restricted(None, now);
        let of_key = whose.and_then(|print| self.places.restricted(Some(print), now));
        let quota = |limit: &Limit, (remaining, after): (u32, u64), restrictions: [Option<(u32, u64)>; 2]| {
            let strictest = restrictions.into_iter().flatten().min();
            Quota {
                limit: *limit,
                remaining: strictest.map_or(remaining, |(units, _)| remaining.min(units)),
                reset_after: Duration::from_nanos(strictest.map_or(after, |(_, left)| after.max(left))),
                restricted_for: strictest.map(|(_, left)| Duration::from_nanos(left)),
            }
        };
        let limits = self.whole();
        let whole = limits.iter().zip(&self.meters).map(|(limit, meter)| {
            quota(limit, (meter.available(now), meter.idle_after(now)), [of_all, None])
        });
        let keyed = self.keyed.iter().zip(whose).flat_map(|(keyed, print)| {
            keyed.limits.iter().enumerate().map(move |(index, limit)| {
                quota(limit, keyed.keys.quota(print, index, now), [of_all, of_key])
            })
        });
        whole.chain(keyed).collect()
    }

    /// Whether calls of all are restricted.
    pub(crate) fn is_restricted(&self, now: u64) -> bool {
        self.places.restricted(None, now).is_some()
    }

    pub(crate) fn limits(&self) -> impl Iterator<Item = Limit> {
        let whole = self.whole().to_vec();
        whole.into_iter().chain(self.keyed.iter().flat_map(|keyed| keyed.limits.iter().copied()))
    }

    fn whole(&self) -> MutexGuard<'_, Box<[Limit]>> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn most(&self) -> u32 {
        self.most.load(Relaxed)
    }

    /// Holds other limits of all calls together from now on. What was taken goes on to count.
    pub(crate) fn set_limits(&self, limits: &[Limit]) -> Result<(), InvalidLimits> {
        let mut whole = self.whole();
        InvalidLimits::check(self.origin.name(), &whole, limits)?;
        let now = clock::now();
        self.meters.iter().zip(limits).for_each(|(meter, limit)| meter.change(*limit, now));
        whole.copy_from_slice(limits);
        let each = self.keyed.iter().flat_map(|keyed| &keyed.limits);
        self.most.store(most(limits.iter().chain(each)), Relaxed);
        drop(whole);
        self.places.look_again(self, now);
        Ok(())
    }

    /// How many keys are active, where there are keys.
    pub(crate) fn active(&self, now: u64) -> Option<usize> {
        self.keyed.as_ref().map(|keyed| keyed.keys.active(now))
    }
}

/// Neither the hash's seed nor anything of the keys.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limits")
            .field("origin", &self.origin)
            .field("limits", &self.limits().collect::<Vec<_>>())
            .field("waiting", &self.places.waiting())
            .finish_non_exhaustive()
    }
}

impl Source for Inner {
    #[inline]
    fn take(&self, whose: Whose, units: u32, since: u64, now: u64) -> Result<(), Wait> {
        match (whose, &self.keyed) {
            (Some(print), Some(keyed)) => keyed.keys.take(print, units, since, now),
            _ => self.take_whole(units, since, now),
        }
    }

    fn wait(&self, whose: Whose, units: u64, now: u64) -> u64 {
        match (whose, &self.keyed) {
            (Some(print), Some(keyed)) => keyed.keys.wait(print, units, now),
            _ => self.meters.iter().map(|meter| meter.wait(units, now)).max().unwrap_or(0),
        }
    }

    fn give_back(&self, whose: Whose, units: u32, taken: u64, now: u64) {
        match (whose, &self.keyed) {
            (Some(print), Some(keyed)) => keyed.keys.give_back(print, units, taken, now),
            _ => self.meters.iter().for_each(|meter| meter.give_back(units, taken, now)),
        }
    }
}

pub(crate) fn reject(origin: Origin, wait: Wait) -> Rejected {
    let rejected = origin.reject(Reason::RateLimited);
    match wait {
        Some(wait) => rejected.with_retry_after(Duration::from_nanos(wait)),
        None => rejected,
    }
}

fn most<'a>(limits: impl Iterator<Item = &'a Limit>) -> u32 {
    limits.map(|limit| limit.most_at_once()).min().unwrap_or(0)
}

/// Fast, and seeded by the system: whoever does not know the seed cannot find two keys that fall together.
fn hasher() -> SeedableRandomState {
    static SEED: OnceLock<SharedSeed> = OnceLock::new();
    let chance = || RandomState::new().hash_one(0);
    SeedableRandomState::with_seed(chance(), SEED.get_or_init(|| SharedSeed::from_u64(chance())))
}
