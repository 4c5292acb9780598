//! The machine, shared without a lock on the way of a call.
//!
//! Three things let many threads use one sequential [`Machine`]:
//!
//! 1. **A published word**, `{epoch, state}`. Admission is one load of it. It is written only when the state changes,
//!    so on a good day its line stays in every processor's cache. One of the states says that one more success would
//!    change nothing (a full window of successes): such a success ends after reading.
//! 2. **A cell for each thread** where calls that ended are gathered, `{epoch, bucket, good, slow, failed}` in one word
//!    on a line of its own. A good call stays there; a bad one makes its thread settle at once, and so does the call
//!    that fills the cell.
//! 3. **Settling by one thread at a time** (flat combining; Hendler, Incze, Shavit, Tzafrir, SPAA 2010): whoever comes
//!    first takes the turn, empties every cell into the machine and publishes. Whoever comes meanwhile marks the turn
//!    and leaves; the one who has it goes round once more. So nobody waits, and no verdict stays behind.
//!
//! Since a bad call settles at once, the good calls found in the cells ended between it and the bad one before, and the
//! order is the true one. It is not where the thread that has the turn is held up (another process may run in its
//! place for milliseconds): then many calls of both kinds wait in the cells. They are counted as spread evenly, and the
//! good ones are gathered beside the bad: a bad call ends the state in which successes are only read.

mod asked;
mod part;
mod settling;

use std::{fmt, num::NonZeroU64, sync::PoisonError};

use tokio::time::Instant;

use self::{asked::Asked, part::PartWords};
use crate::{
    breaker::Machine,
    cell::Gathered,
    knobs::{Knobs, to_nanos},
    published::{Published, Refusal, admits_all, epoch_of, pack, unpack},
    settings::Settings,
    state::{Changes, State, Ticket},
    sync::{Acquire, AtomicU8, AtomicU64, Mutex, MutexGuard, Padded, Relaxed, Release},
};

pub(crate) struct Shared {
    word: Padded<AtomicU64>,
    pub(crate) knobs: Padded<Knobs>,
    /// Nanoseconds after `start` until which calls are refused, where the word says that they are.
    refuses_until: AtomicU64,
    /// What part of the calls is admitted, where the word says that one is.
    part: PartWords,
    asked: Asked,
    turn: AtomicU8,
    cells: Box<[Padded<AtomicU64>]>,
    machine: Mutex<Machine>,
    start: Instant,
}

const FREE: u8 = 0;
const TAKEN: u8 = 1;
/// Taken, and something came since.
const MARKED: u8 = 2;

type Admission = (Result<Ticket, Refusal>, Changes);

impl Shared {
    pub(crate) fn new(settings: Settings, cells: usize, start: Instant) -> Self {
        let machine = Machine::new(settings);
        let published = if machine.is_quiet() { Published::Quiet } else { Published::Counting };
        Self {
            word: Padded(AtomicU64::new(pack(published, machine.epoch()))),
            knobs: Padded(Knobs::of(&machine)),
            refuses_until: AtomicU64::new(0),
            part: PartWords::default(),
            asked: Asked::default(),
            turn: AtomicU8::new(FREE),
            cells: (0..cells.next_power_of_two()).map(|_| Padded(AtomicU64::new(0))).collect(),
            machine: Mutex::new(machine),
            start,
        }
    }

    /// The ticket of a call, if the breaker is closed.
    #[inline]
    pub(crate) fn admit_if_closed(&self) -> Option<Ticket> {
        let word = self.word.0.load(Acquire);
        if !admits_all(word) {
            return None;
        }
        NonZeroU64::new(epoch_of(word)).map(|epoch| Ticket { epoch, probe: None })
    }

    /// Whether a call would be refused now, without taking a probe. The clock is read only where that depends on it.
    /// Where a part of the calls is admitted, it is not known yet.
    #[inline]
    pub(crate) fn refusal(&self, now: impl FnOnce() -> Instant) -> Option<Refusal> {
        let longest = match unpack(self.word.0.load(Acquire)) {
            Published::Open => u64::MAX - 1,
            Published::ProbesOut => Refusal::SOON.nanos(),
            Published::HeldOpen => return Some(Refusal::UNTIL_RESET),
            Published::Quiet
            | Published::Counting
            | Published::HeldClosed
            | Published::MetricsOnly
            | Published::Recovering
            | Published::Throttling
            | Published::Probing => return None,
        };
        Refusal::of(self.refuses_until.load(Relaxed).saturating_sub(self.nanos(now())).min(longest))
    }

    /// Admits a call in any state.
    pub(crate) fn admit(&self, now: impl Fn() -> Instant) -> Admission {
        if let Some(ticket) = self.admit_if_closed() {
            return (Ok(ticket), Changes::new());
        }
        if let Some(refusal) = self.refusal(&now) {
            return (Err(refusal), Changes::new());
        }
        let now = now();
        // Where somebody else is deciding at this moment: rejecting never waits.
        self.admit_a_part(now).unwrap_or_else(|| self.admit_by_machine(now, Err(Refusal::SOON)))
    }

    /// Lets the machine decide; where it is busy, that is the answer, unless it has closed meanwhile.
    fn admit_by_machine(&self, now: Instant, busy: Result<Ticket, Refusal>) -> Admission {
        let Some(mut machine) = self.try_lock() else {
            return (self.admit_if_closed().map_or(busy, Ok), Changes::new());
        };
        let (result, transition) = machine.admit(now);
        let mut changes = Changes::from_iter(transition);
        if !changes.is_empty() {
            // Calls of an epoch that is over, so that they are not met again when its number comes round. Those of this
            // one, if it goes on, are counted.
            changes.extend(self.empty_cells(&mut machine, || now));
        }
        self.publish(&machine);
        let refused = |until: Option<Instant>| match until {
            None => Refusal::UNTIL_RESET,
            Some(_) if machine.state() == State::HalfOpen => Refusal::SOON,
            Some(until) => {
                Refusal::of(self.nanos(until).saturating_sub(self.nanos(now))).unwrap_or(Refusal::SOON)
            }
        };
        (result.map_err(refused), changes)
    }

    /// Whether a success of a call of that epoch would change nothing.
    #[inline]
    pub(crate) fn is_quiet_for(&self, ticket: Ticket, cell: usize) -> bool {
        // Calls in this thread's cell that nobody counted yet must not lose the successes that came after them.
        self.word.0.load(Acquire) == pack(Published::Quiet, ticket.epoch)
            && self.cell(cell).load(Relaxed) == 0
    }

    /// Gathers a good call that ended at that time, where its cell has others like it. This is all that happens to most
    /// calls of a window of time.
    #[inline]
    pub(crate) fn gather_good(&self, cell: usize, ticket: Ticket, now: Instant) -> bool {
        let (Some(bucket), None) = (self.knobs.0.bucket(self.nanos(now)), ticket.probe) else { return false };
        let cell = self.cell(cell);
        let word = cell.load(Relaxed);
        epoch_of(self.word.0.load(Acquire)) == ticket.epoch.get()
            && Gathered::with_good(word, ticket.epoch.get(), bucket, self.knobs.0.room())
                .is_some_and(|sum| cell.compare_exchange(word, sum, Release, Relaxed).is_ok())
    }

    fn publish(&self, machine: &Machine) {
        let until = machine.refuses_until();
        let published = match machine.state() {
            State::Closed if machine.is_quiet() => Published::Quiet,
            State::Closed => Published::Counting,
            State::ForcedClosed => Published::HeldClosed,
            State::MetricsOnly => Published::MetricsOnly,
            State::Recovering => Published::Recovering,
            State::Throttling => Published::Throttling,
            State::ForcedOpen => Published::HeldOpen,
            State::HalfOpen if until.is_none() => Published::Probing,
            State::HalfOpen => Published::ProbesOut,
            State::Open => Published::Open,
        };
        self.knobs.0.set_room(machine);
        if let Some(part) = machine.part() {
            self.part.set(part, |at| self.nanos(at));
        }
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

    /// For the handle: runs with all that was gathered counted in, and publishes. What has changed before that is to be
    /// told.
    pub(crate) fn with<R>(&self, now: Instant, f: impl FnOnce(&mut Machine) -> R) -> (R, Changes) {
        let mut machine = self.lock();
        let changes = self.catch_up(&mut machine, now);
        let result = f(&mut machine);
        self.knobs.0.set(&machine);
        self.publish(&machine);
        (result, changes)
    }

    /// Counts what was gathered, and takes what has changed by time.
    fn catch_up(&self, machine: &mut Machine, now: Instant) -> Changes {
        let mut changes = Changes::from_iter(self.empty_cells(machine, || now));
        if self.knobs.0.has_buckets() {
            machine.advance(self.bucket(now));
        }
        changes.extend(machine.tick(now));
        changes
    }

    /// The state, without waiting for anybody.
    pub(crate) fn state(&self) -> State {
        unpack(self.word.0.load(Acquire)).state()
    }

    /// As many threads as can gather calls without a line in common.
    pub(crate) fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Whether its clock stands before that time, or at it.
    pub(crate) fn is_older_than(&self, now: Instant) -> bool {
        self.start <= now
    }

    fn bucket(&self, at: Instant) -> u64 {
        self.knobs.0.bucket(self.nanos(at)).unwrap_or(0)
    }

    #[inline]
    fn cell(&self, number: usize) -> &AtomicU64 {
        &self.cells[number & (self.cells.len() - 1)].0
    }

    /// Nanoseconds since the breaker was made: 584 years fit.
    #[inline]
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        to_nanos(at.saturating_duration_since(self.start))
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

/// The state alone: the machine is large, and printing it would hold its lock.
impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state()).finish_non_exhaustive()
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;
