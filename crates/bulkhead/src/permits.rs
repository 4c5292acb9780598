use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    task::Waker,
    thread,
};

use crate::{
    Criticality,
    sync::{AtomicUsize, Mutex, Padded, Relaxed, SeqCst, crosswise, lock, thread_number},
    waiters::{Key, Source, Standing, Waiters},
};

/// The permits of one bulkhead.
///
/// What is free lies in stripes, one for each processor and some more, so that threads that take and give back do not
/// write the same cache line. Whoever finds its own stripe empty takes from the others.
///
/// **Conservation.** A permit is moved by one atomic subtraction and one addition, and is made and unmade only by
/// [`set_limit`](Self::set_limit): what is free, what is held and what is being moved add up to the limit, plus the debt
/// of a limit that was lowered while its permits were out. So never more are held than that.
///
/// **Nobody is forgotten.** A waiter first makes itself known in [`attention`](Self::attention), then looks at every
/// stripe once more; whoever puts a permit into a stripe looks at `attention` afterwards. At least one of them sees the
/// other (Dekker), and takes the lock to bring permit and waiter together.
#[derive(Debug)]
pub(crate) struct Permits {
    /// How many wait and how many permits are owed, together. Not zero: whoever takes or gives back minds those first.
    attention: AtomicUsize,
    /// How many permits there are, wherever they are.
    existing: AtomicUsize,
    reserved_from: Criticality,
    capacity: usize,
    stripes: Box<[Padded<AtomicUsize>]>,
    /// Permits for calls from [`reserved_from`](Self::reserved_from) on.
    reserve: Padded<AtomicUsize>,
    slow: Padded<Mutex<Slow>>,
}

#[derive(Debug)]
struct Slow {
    limit: usize,
    /// Permits to be unmade as they come back.
    debt: usize,
    waiters: Waiters,
    shed: u64,
}

/// What permits are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) limit: usize,
    /// How many of them are kept for calls from a level on.
    pub(crate) reserve: usize,
    pub(crate) reserved_from: Criticality,
    /// How many may wait.
    pub(crate) capacity: usize,
    /// A power of two.
    pub(crate) stripes: usize,
}

/// What became of a call that asked for a permit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    Permit(Source),
    Wait(Key),
    Full,
}

/// The figures of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) limit: usize,
    pub(crate) in_flight: usize,
    pub(crate) waiting: usize,
    pub(crate) shed: u64,
}

/// Below so many permits a stripe gives only one to a thief: where few are left, none should be on the way.
const FEW: usize = 8;

impl Permits {
    pub(crate) fn new(plan: Plan) -> Self {
        let Plan { limit, reserve, reserved_from, capacity, stripes } = plan;
        debug_assert!(stripes.is_power_of_two() && reserve < limit);
        let general = limit - reserve;
        let share = |at| general / stripes + usize::from(at < general % stripes);
        Self {
            attention: AtomicUsize::new(0),
            existing: AtomicUsize::new(limit),
            reserved_from,
            capacity,
            stripes: (0..stripes).map(|at| Padded(AtomicUsize::new(share(at)))).collect(),
            reserve: Padded(AtomicUsize::new(reserve)),
            slow: Padded(Mutex::new(Slow { limit, debt: 0, waiters: Waiters::default(), shed: 0 })),
        }
    }

    #[inline]
    fn own(&self) -> usize {
        thread_number() & (self.stripes.len() - 1)
    }

    /// Takes a permit from this thread's stripe, where nobody else has a better claim.
    #[inline]
    pub(crate) fn take(&self) -> bool {
        self.attention.load(SeqCst) == 0 && take_one(&self.stripes[self.own()].0)
    }

    /// Takes a permit wherever there is one, or a place in the queue. The level is asked only where no permit is free.
    pub(crate) fn enter(&self, level: impl FnOnce() -> Criticality, may_wait: bool) -> Entry {
        let calm = || self.attention.load(SeqCst) == 0;
        let stripes = calm();
        if stripes && self.take_anywhere() {
            return Entry::Permit(Source::General);
        }
        let level = level();
        let reserve = calm();
        if reserve && self.take_reserve(level) {
            return Entry::Permit(Source::Reserve);
        }
        // A refusal takes no lock, but has looked everywhere.
        if (!may_wait || self.capacity == 0) && (stripes && reserve || self.is_full()) {
            return Entry::Full;
        }
        self.queue(level, may_wait)
    }

    #[cold]
    fn queue(&self, level: Criticality, may_wait: bool) -> Entry {
        loop {
            let mut slow = lock(&self.slow.0);
            if let Some(waker) = self.settle(&mut slow) {
                drop(slow);
                self.wake([Some(waker), None]).unwrap_or_else(|panic| resume_unwind(panic));
                continue;
            }
            // What is free now can be used by none of those before.
            if slow.waiters.len() == 0 && slow.debt == 0 && self.take_single() {
                return Entry::Permit(Source::General);
            }
            if self.take_reserve(level) {
                return Entry::Permit(Source::Reserve);
            }
            if !may_wait {
                return Entry::Full;
            }
            let mut shed = None;
            if slow.waiters.len() >= self.capacity {
                match slow.waiters.shed_below(level) {
                    Some(waker) => (shed, slow.shed) = (waker, slow.shed + 1),
                    None => return Entry::Full,
                }
            }
            let key = slow.waiters.join(level);
            self.publish(&slow);
            crosswise();
            let granted = self.settle(&mut slow);
            drop(slow);
            if (shed.is_some() || granted.is_some())
                && let Err(panic) = self.wake([shed, granted])
            {
                // Nobody will come for the place.
                if let Standing::Granted(source) = self.leave(key) {
                    self.give_back(source);
                }
                resume_unwind(panic);
            }
            return Entry::Wait(key);
        }
    }

    /// Gives a permit back: to whoever waits for it, else into this thread's stripe.
    #[inline]
    pub(crate) fn give_back(&self, source: Source) {
        let home = match source {
            Source::General => &self.stripes[self.own()].0,
            Source::Reserve => &self.reserve.0,
        };
        self.put(home, 1);
    }

    #[inline]
    fn put(&self, home: &AtomicUsize, permits: usize) {
        home.fetch_add(permits, SeqCst);
        crosswise();
        if self.attention.load(SeqCst) != 0 {
            self.attend();
        }
    }

    /// Brings together what is free and those who wait.
    #[cold]
    pub(crate) fn attend(&self) {
        self.wake([None, None]).unwrap_or_else(|panic| resume_unwind(panic));
    }

    /// Wakes those two, and whoever can have a permit now. A waker that panics keeps nobody else waiting: the first panic
    /// is handed back when all are woken.
    fn wake(&self, wakers: [Option<Waker>; 2]) -> thread::Result<()> {
        let mut all = Ok(());
        let mut wake = |waker: Waker| {
            let woken = catch_unwind(AssertUnwindSafe(|| waker.wake()));
            if all.is_ok() {
                all = woken;
            }
        };
        wakers.into_iter().flatten().for_each(&mut wake);
        loop {
            let granted = self.settle(&mut lock(&self.slow.0));
            match granted {
                Some(waker) => wake(waker),
                None => return all,
            }
        }
    }

    /// Pays the debt, then grants permits until one of those who get one has to be woken.
    fn settle(&self, slow: &mut Slow) -> Option<Waker> {
        while slow.debt > 0 && self.take_single() {
            slow.debt -= 1;
        }
        let granted = loop {
            let Some(level) = slow.waiters.best() else { break None };
            let source = if slow.debt == 0 && self.take_single() {
                Source::General
            } else if self.take_reserve(level) {
                Source::Reserve
            } else {
                break None;
            };
            if let Some(waker) = slow.waiters.grant(source) {
                break Some(waker);
            }
        };
        self.publish(slow);
        granted
    }

    fn publish(&self, slow: &Slow) {
        let (attention, existing) = (slow.waiters.len() + slow.debt, slow.limit + slow.debt);
        // Both lie on the line that every call reads.
        if self.attention.load(Relaxed) != attention {
            self.attention.store(attention, SeqCst);
        }
        if self.existing.load(Relaxed) != existing {
            self.existing.store(existing, Relaxed);
        }
    }

    /// How it stands with that waiter, who gives up the place unless it still waits.
    pub(crate) fn look(&self, key: Key, waker: &Waker) -> Standing {
        // A waker's own code runs where no lock is held.
        let waker = waker.clone();
        let mut slow = lock(&self.slow.0);
        let (standing, spare) = slow.waiters.look(key, waker);
        if standing != Standing::Waiting {
            slow.waiters.leave(key);
        }
        drop(slow);
        drop(spare);
        standing
    }

    /// That waiter goes, and says how it stood: a permit that was granted is now the caller's.
    pub(crate) fn leave(&self, key: Key) -> Standing {
        let mut slow = lock(&self.slow.0);
        let (standing, waker) = slow.waiters.leave(key);
        self.publish(&slow);
        drop(slow);
        drop(waker);
        standing
    }

    /// From now on there are so many permits, which must be more than the reserve. Of a lower limit those that are free
    /// go at once, the others as they come back. Nobody is woken before [`attend`](Self::attend) is called.
    pub(crate) fn set_limit(&self, limit: usize) {
        let mut slow = lock(&self.slow.0);
        if limit < slow.limit {
            slow.debt += slow.limit - limit;
            slow.limit = limit;
            self.publish(&slow);
            crosswise();
            while slow.debt > 0 && self.take_single() {
                slow.debt -= 1;
            }
        } else {
            let more = limit - slow.limit;
            slow.limit = limit;
            let forgiven = more.min(slow.debt);
            slow.debt -= forgiven;
            // Said before they can be taken, so that what is held is never more than what is said to exist.
            self.existing.store(slow.limit + slow.debt, Relaxed);
            self.stripes[self.own()].0.fetch_add(more - forgiven, SeqCst);
        }
        self.publish(&slow);
    }

    pub(crate) fn limit(&self) -> usize {
        lock(&self.slow.0).limit
    }

    /// How many permits are held, as far as can be seen while others take and give back.
    pub(crate) fn in_flight(&self) -> usize {
        self.existing.load(Relaxed).saturating_sub(self.free())
    }

    pub(crate) fn count(&self) -> Count {
        let slow = lock(&self.slow.0);
        Count {
            limit: slow.limit,
            in_flight: (slow.limit + slow.debt).saturating_sub(self.free()),
            waiting: slow.waiters.len(),
            shed: slow.shed,
        }
    }

    /// Whether nobody holds or awaits any of them.
    pub(crate) fn are_home(&self) -> bool {
        let slow = lock(&self.slow.0);
        slow.waiters.taken() == 0 && slow.debt == 0 && self.free() == slow.limit
    }

    /// As good as new, where [all are home](Self::are_home).
    pub(crate) fn renew(&self, limit: usize) {
        self.set_limit(limit);
        lock(&self.slow.0).shed = 0;
    }

    fn free(&self) -> usize {
        self.homes().map(|home| home.load(SeqCst)).sum()
    }

    /// Whether nothing is free, not even for calls of the reserve.
    pub(crate) fn is_full(&self) -> bool {
        self.homes().all(|home| home.load(SeqCst) == 0)
    }

    fn homes(&self) -> impl Iterator<Item = &AtomicUsize> {
        self.stripes.iter().chain([&self.reserve]).map(|home| &home.0)
    }

    fn take_reserve(&self, level: Criticality) -> bool {
        level >= self.reserved_from && take_one(&self.reserve.0)
    }

    /// Takes one from the first stripe that has some.
    fn take_single(&self) -> bool {
        let own = self.own();
        let mask = self.stripes.len() - 1;
        (0..=mask).any(|at| take_one(&self.stripes[(own + at) & mask].0))
    }

    /// Takes one, and half of what lies beside it along to the own stripe.
    fn take_anywhere(&self) -> bool {
        let own = self.own();
        let mask = self.stripes.len() - 1;
        if take_one(&self.stripes[own].0) {
            return true;
        }
        for at in 1..=mask {
            let loot = take_some(&self.stripes[(own + at) & mask].0);
            if loot > 1 {
                self.put(&self.stripes[own].0, loot - 1);
            }
            if loot > 0 {
                return true;
            }
        }
        false
    }
}

#[inline]
fn take_one(home: &AtomicUsize) -> bool {
    let mut free = home.load(SeqCst);
    while free > 0 {
        match home.compare_exchange_weak(free, free - 1, SeqCst, SeqCst) {
            Ok(_) => return true,
            Err(now) => free = now,
        }
    }
    false
}

fn take_some(home: &AtomicUsize) -> usize {
    let mut free = home.load(SeqCst);
    while free > 0 {
        let loot = if free < FEW { 1 } else { free / 2 };
        match home.compare_exchange_weak(free, free - loot, SeqCst, SeqCst) {
            Ok(_) => return loot,
            Err(now) => free = now,
        }
    }
    0
}

#[cfg(all(test, buttress_loom))]
mod loom_models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
