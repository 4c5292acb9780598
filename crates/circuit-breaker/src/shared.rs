//! The machine, shared without a lock on the way of a call.
//!
//! Three things let many threads use one sequential [`Machine`]:
//!
//! 1. **A published word**, `{epoch, state}`. Admission is one load of it. It is written only when the state changes,
//!    so on a good day its line stays in every processor's cache. One of the states says that one more success would
//!    change nothing (a full window of successes): such a success ends after reading.
//! 2. **A cell for each thread** where calls that ended are gathered, `{epoch, bucket, good, failed, slow}` in one word
//!    on a line of its own. A good call stays there; a bad one makes its thread settle at once, and so does the call
//!    that fills the cell.
//! 3. **Settling by one thread at a time** (flat combining; Hendler, Incze, Shavit, Tzafrir, SPAA 2010): whoever comes
//!    first takes the turn, empties every cell into the machine and publishes. Whoever comes meanwhile marks the turn
//!    and leaves; the one who has it goes round once more. So nobody waits, and no verdict stays behind.
//!
//! The cells are emptied in the order good before bad. Since a bad call settles at once, the good calls found in the
//! cells ended after the bad call before, so the order is the true one but for calls that end at the same moment.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use crate::{
    breaker::{Machine, State, Ticket, Transition, Verdict},
    cell::Gathered,
    config::{Kind, Settings},
    sync::{AcqRel, Acquire, AtomicU8, AtomicU64, Mutex, MutexGuard, Padded, Relaxed, Release},
    window::{Buckets, Tally},
};

#[derive(Debug)]
pub(crate) struct Shared {
    word: Padded<AtomicU64>,
    /// Nanoseconds after `start` until which calls are refused, where the word says that they are.
    refuses_until: AtomicU64,
    turn: AtomicU8,
    cells: Box<[Padded<AtomicU64>]>,
    machine: Mutex<Machine>,
    start: Instant,
    /// How many good calls a cell gathers before they are counted.
    room: u64,
    buckets: Option<Buckets>,
    pub(crate) settings: Settings,
}

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Taken, and something came since.
const MARKED: u8 = 2;

/// What to tell those who meet a half-open breaker: the leases say how long its probes may take, not how long they will.
const PROBES_TAKE: Duration = Duration::from_secs(1);

/// What the published word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Published {
    /// Closed, and a success would change nothing.
    Quiet,
    /// Closed or held closed.
    Counting,
    /// Open: refuses until a time.
    Open,
    /// Half-open with every probe out: refuses until the next lease ends.
    ProbesOut,
    /// Half-open with a probe to give.
    Probing,
    /// Held open.
    Held,
}

fn pack(published: Published, epoch: u64) -> u64 {
    epoch << 3 | published as u64
}

fn unpack(word: u64) -> (Published, u64) {
    let published = match word & 7 {
        0 => Published::Quiet,
        1 => Published::Counting,
        2 => Published::Open,
        3 => Published::ProbesOut,
        4 => Published::Probing,
        _ => Published::Held,
    };
    (published, word >> 3)
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) retry_after: Option<Duration>,
}

impl Shared {
    pub(crate) fn new(settings: Settings, cells: usize, start: Instant) -> Self {
        let window = settings.trip.rates.map(|rates| rates.window.0);
        let room = match window {
            // A cell of a whole window replaces it.
            Some(Kind::Calls(n)) => u64::from(n).min(Gathered::MOST_CLEAN),
            Some(Kind::Time(_)) => Gathered::MOST_CLEAN,
            // A success ends a run of failures: there is nothing to gather.
            None => 1,
        };
        let machine = Machine::new(settings);
        let published = if machine.is_quiet() { Published::Quiet } else { Published::Counting };
        Self {
            word: Padded(AtomicU64::new(pack(published, machine.epoch()))),
            refuses_until: AtomicU64::new(0),
            turn: AtomicU8::new(FREE),
            cells: (0..cells.max(1)).map(|_| Padded(AtomicU64::new(0))).collect(),
            machine: Mutex::new(machine),
            start,
            room,
            buckets: match window {
                Some(Kind::Time(length)) => Some(Buckets::of(length)),
                _ => None,
            },
            settings,
        }
    }

    /// Whether a call would be refused now, without taking a probe. The clock is read only where that depends on it.
    pub(crate) fn refusal(&self, now: impl FnOnce() -> Instant) -> Option<Refusal> {
        match unpack(self.word.0.load(Acquire)).0 {
            Published::Quiet | Published::Counting | Published::Probing => None,
            Published::Held => Some(Refusal { retry_after: None }),
            Published::Open => self.left(now()).map(|left| Refusal { retry_after: Some(left) }),
            Published::ProbesOut => {
                self.left(now()).map(|left| Refusal { retry_after: Some(left.min(PROBES_TAKE)) })
            }
        }
    }

    /// The time until the published one, if that has not come.
    fn left(&self, now: Instant) -> Option<Duration> {
        let nanos = self.refuses_until.load(Relaxed).saturating_sub(self.nanos(now));
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    /// Admits a call.
    pub(crate) fn admit(&self, now: impl Fn() -> Instant) -> (Result<Ticket, Refusal>, Option<Transition>) {
        let (published, epoch) = unpack(self.word.0.load(Acquire));
        if let Published::Quiet | Published::Counting = published {
            return (Ok(Ticket { epoch, probe: None }), None);
        }
        if let Some(refusal) = self.refusal(&now) {
            return (Err(refusal), None);
        }
        let now = now();
        let Some(mut machine) = self.try_lock() else {
            // Somebody else is deciding at this moment, and rejecting never waits.
            return (Err(Refusal { retry_after: Some(PROBES_TAKE) }), None);
        };
        let (result, transition) = machine.admit(now);
        self.publish(&machine);
        let longest = if machine.state() == State::HalfOpen { PROBES_TAKE } else { Duration::MAX };
        let refused = |until: Option<Instant>| Refusal {
            retry_after: until.map(|until| until.saturating_duration_since(now).min(longest)),
        };
        (result.map_err(refused), transition)
    }

    /// Takes the verdict on an admitted call, on the cell of this thread.
    pub(crate) fn settle(
        &self,
        cell: usize,
        ticket: Ticket,
        verdict: Verdict,
        now: impl Fn() -> Instant,
    ) -> Option<Transition> {
        if ticket.probe.is_some() {
            // At most as many as there are probes come here, and none may get lost: they take the lock.
            let mut machine = self.lock();
            let transition = machine.judge(ticket, verdict, now());
            self.publish(&machine);
            return transition;
        }
        let (failed, slow) = match verdict {
            Verdict::Good { slow } => (false, slow),
            Verdict::Bad { slow } => (true, slow),
            Verdict::None => return None,
        };
        let slow = slow && self.settings.times_calls();
        let clean = !failed && !slow;
        let (published, epoch) = unpack(self.word.0.load(Acquire));
        if epoch != ticket.epoch || (published == Published::Quiet && clean) {
            return None;
        }
        match self.buckets {
            None => self.gather(cell, &Gathered::one(epoch, 0, failed, slow), now),
            Some(buckets) => {
                let now = now();
                let bucket = buckets.index(self.nanos(now));
                self.gather(cell, &Gathered::one(epoch, bucket, failed, slow), || now)
            }
        }
    }

    /// Adds to the cell, and settles where that cannot wait.
    fn gather(&self, cell: usize, one: &Gathered, now: impl Fn() -> Instant) -> Option<Transition> {
        let cell = &self.cells[cell % self.cells.len()].0;
        let mut earlier = None;
        if Gathered::unpack(cell.load(Relaxed)).is_before(one) {
            earlier = self.take_turn(&now);
        }
        let mut word = cell.load(Relaxed);
        let sum = loop {
            let Some(sum) = Gathered::unpack(word).plus(one) else { return earlier };
            match cell.compare_exchange_weak(word, sum.pack(), Release, Relaxed) {
                Ok(_) => break sum,
                Err(now) => word = now,
            }
        };
        let is_due = one.bad().calls > 0 || sum.clean().calls >= self.room;
        if is_due { self.take_turn(now).or(earlier) } else { earlier }
    }

    /// Settles, or leaves it to the one who is at it.
    fn take_turn(&self, now: impl Fn() -> Instant) -> Option<Transition> {
        // A swap, also by those who leave: the release in it is what shows their cell to the one at it.
        if self.turn.swap(MARKED, AcqRel) != FREE {
            return None;
        }
        let mut transition = None;
        loop {
            self.turn.swap(TAKEN, AcqRel);
            let mut machine = self.lock();
            // At most one of the rounds changes the state: what was gathered before belongs to an older epoch.
            transition = self.empty_cells(&mut machine, &now).or(transition);
            self.publish(&machine);
            drop(machine);
            if self.turn.compare_exchange(TAKEN, FREE, AcqRel, Acquire).is_ok() {
                return transition;
            }
        }
    }

    /// Counts what was gathered: the good calls of all cells, then the bad.
    fn empty_cells(&self, machine: &mut Machine, now: impl Fn() -> Instant) -> Option<Transition> {
        let epoch = machine.epoch();
        let current = self.buckets.map(|buckets| buckets.index(self.nanos(now())));
        let (mut bad, mut bad_bucket) = (Tally::default(), 0);
        for cell in &self.cells {
            // Looking first spares the lines of threads that did nothing.
            if cell.0.load(Acquire) == 0 {
                continue;
            }
            let gathered = Gathered::unpack(cell.0.swap(0, AcqRel));
            if !gathered.is_of(epoch) {
                continue;
            }
            let bucket = current.map_or(0, |current| gathered.bucket_before(current));
            if gathered.clean().calls > 0 {
                let _a_success_never_opens_it = machine.count(bucket, gathered.clean(), &now);
            }
            if gathered.bad().calls > 0 {
                bad.add(gathered.bad());
                bad_bucket = bad_bucket.max(bucket);
            }
        }
        if bad.calls > 0 { machine.count(bad_bucket, bad, now) } else { None }
    }

    fn publish(&self, machine: &Machine) {
        let until = machine.refuses_until();
        let published = match machine.state() {
            State::Closed if machine.is_quiet() => Published::Quiet,
            State::Closed | State::ForcedClosed => Published::Counting,
            State::ForcedOpen => Published::Held,
            State::HalfOpen if until.is_none() => Published::Probing,
            State::HalfOpen => Published::ProbesOut,
            State::Open => Published::Open,
        };
        if let Some(until) = until {
            // Before the word that sends readers here.
            self.refuses_until.store(self.nanos(until), Relaxed);
        }
        let word = pack(published, machine.epoch());
        // Writing the same again would take the line from every reader.
        if self.word.0.load(Relaxed) != word {
            self.word.0.store(word, Release);
        }
    }

    /// For the handle: runs with all that was gathered counted in, and publishes.
    pub(crate) fn with<R>(&self, now: Instant, f: impl FnOnce(&mut Machine) -> R) -> (R, Option<Transition>) {
        let mut machine = self.lock();
        let transition = self.empty_cells(&mut machine, || now);
        if let Some(buckets) = self.buckets {
            machine.advance(buckets.index(self.nanos(now)));
        }
        let result = f(&mut machine);
        self.publish(&machine);
        (result, transition)
    }

    /// How many cells there are.
    pub(crate) fn cells(&self) -> usize {
        self.cells.len()
    }

    fn nanos(&self, at: Instant) -> u64 {
        // 584 years fit.
        at.saturating_duration_since(self.start).as_nanos() as u64
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Machine>> {
        use std::sync::TryLockError;
        match self.machine.try_lock() {
            Ok(machine) => Some(machine),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models;
