use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::Origin;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, sleep_until},
};

use crate::{
    Cause, Change, Probe, Report, Status,
    attempt::{Attempt, attempt, caught},
    board::{Board, Fixed},
    machine::Standing,
    part::Passive,
    wall,
};

/// What the handles, the loops and the signals share.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) origin: Origin,
    pub(crate) slots: Box<[Slot]>,
    board: Mutex<Board>,
    reports: watch::Sender<Report>,
}

/// One part's share.
pub(crate) struct Slot {
    pub(crate) fixed: Fixed,
    passive: Option<Passive>,
    /// Held while the passive signal is read, so that what was read later is not overwritten by what was read before.
    reading: Mutex<()>,
    hurry: Notify,
    pub(crate) mood: Arc<Mood>,
    pub(crate) figures: Figures,
}

#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) probes: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    /// The last one's, in nanoseconds.
    pub(crate) took: AtomicU64,
}

/// Which results of calls say nothing new, for signals that are given at the rate of calls. It may be old by a moment: then one
/// result is not counted.
#[derive(Debug, Default)]
pub(crate) struct Mood(AtomicU8);

impl Mood {
    const CALM: u8 = 1;
    const GLOOMY: u8 = 2;

    pub(crate) fn is_calm(&self) -> bool {
        self.0.load(Relaxed) == Self::CALM
    }

    pub(crate) fn is_gloomy(&self) -> bool {
        self.0.load(Relaxed) == Self::GLOOMY
    }

    fn follow(&self, standing: (Standing, bool)) {
        let mood = match standing {
            (Standing::Up, false) => Self::CALM,
            (Standing::Down, false) => Self::GLOOMY,
            _ => 0,
        };
        if self.0.load(Relaxed) != mood {
            self.0.store(mood, Relaxed);
        }
    }
}

impl Slot {
    pub(crate) fn new(fixed: Fixed, passive: Option<Passive>) -> Self {
        Self {
            fixed,
            passive,
            reading: Mutex::default(),
            hurry: Notify::new(),
            mood: Arc::default(),
            figures: Figures::default(),
        }
    }
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Slot").field("fixed", &self.fixed).finish_non_exhaustive()
    }
}

impl Hub {
    pub(crate) fn new(origin: Origin, slots: Box<[Slot]>) -> Self {
        let mut board = Board::new(slots.iter().map(|slot| slot.fixed), Instant::now(), wall::now());
        for (part, slot) in slots.iter().enumerate() {
            if let Some(says) = &slot.passive {
                board.passive(part, ask(says));
            }
        }
        let (report, changes) = board.settle(wall::now());
        tell(origin, &changes);
        Self { origin, slots, board: Mutex::new(board), reports: watch::Sender::new(report) }
    }

    /// The report of this moment: the passive signals are read, and the clock.
    pub(crate) fn report(&self) -> Report {
        self.read_passive();
        let now = Instant::now();
        if self.with(|board| board.look_for_overdue(now)) {
            self.write(|_| ());
        }
        self.last()
    }

    /// The last report, and nothing else is looked at.
    pub(crate) fn last(&self) -> Report {
        self.reports.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Report> {
        self.reports.subscribe()
    }

    pub(crate) fn history(&self) -> Vec<Change> {
        self.with(|board| board.history())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Board) -> T) -> T {
        f(&mut self.board.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes on the board and makes known what follows. Whoever watches is woken by changes alone.
    pub(crate) fn write(&self, f: impl FnOnce(&mut Board)) {
        let changes = self.with(|board| {
            f(board);
            for (part, slot) in self.slots.iter().enumerate() {
                slot.mood.follow(board.standing(part));
            }
            let (report, changes) = board.settle(wall::now());
            // Under the lock, so that an older report never replaces a newer one.
            self.reports.send_if_modified(|last| {
                *last = report;
                !changes.is_empty()
            });
            changes
        });
        tell(self.origin, &changes);
    }

    /// A call to that part ended: badly, for a cause, or well.
    pub(crate) fn signal(&self, part: usize, failed: Option<Cause>) {
        let mut moves = false;
        // Under one lock, so that nobody's move is taken for another's.
        self.write(|board| {
            let before = board.due(part);
            board.signal(part, failed);
            moves = board.due(part) != before;
        });
        if moves {
            self.slots[part].hurry.notify_one();
        }
    }

    /// Looks at all passive signals.
    fn read_passive(&self) {
        if self.with(|board| board.stopped) {
            return;
        }
        (0..self.slots.len()).for_each(|part| self.read_passive_of(part));
    }

    fn read_passive_of(&self, part: usize) {
        let slot = &self.slots[part];
        let Some(says) = &slot.passive else { return };
        // Where somebody is reading it at this moment, that is new enough; and a signal that asks for a report does not wait for
        // itself.
        let Ok(_reading) = slot.reading.try_lock() else { return };
        let status = ask(says);
        let differs = self.with(|board| board.passive(part, status));
        if differs {
            self.write(|_| ());
        }
    }

    /// The loop of one part; it ends by being aborted.
    pub(crate) async fn run(self: Arc<Self>, part: usize, mut probe: Option<Probe>) {
        let slot = &self.slots[part];
        let rules = slot.fixed.rules;
        loop {
            self.read_passive_of(part);
            let now = Instant::now();
            let due = self.with(|board| board.due(part));
            if let (Some(probe), true) = (&mut probe, due.is_some_and(|due| due <= now)) {
                self.with(|board| board.begin(part, now, fastrand::f64()));
                let attempt = attempt(probe, rules.timeout).await;
                slot.figures.count(&attempt);
                self.write(|board| board.end(part, attempt.status, attempt.took, wall::now()));
            }
            let due = self.with(|board| board.due(part));
            let tick = slot.passive.is_some().then(|| Instant::now() + rules.recheck);
            // What has neither a probe nor a passive signal cannot be made.
            let Some(next) = due.into_iter().chain(tick).min() else { return };
            select! {
                () = sleep_until(next) => {}
                () = slot.hurry.notified() => {}
            }
        }
    }
}

impl Figures {
    fn count(&self, attempt: &Attempt) {
        self.probes.fetch_add(1, Relaxed);
        self.failures.fetch_add(matches!(attempt.status, Status::Down(_)).into(), Relaxed);
        self.timeouts.fetch_add(attempt.timed_out.into(), Relaxed);
        self.took.store(u64::try_from(attempt.took.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(crate) fn took(&self) -> Duration {
        Duration::from_nanos(self.took.load(Relaxed))
    }
}

fn ask(says: &Passive) -> Status {
    caught(says).unwrap_or_else(|| Status::down("the passive signal panicked"))
}

/// Never under the board's lock: a subscriber of tracing's is foreign code. Its panic must not end a loop.
fn tell(origin: Origin, changes: &[Change]) {
    for change in changes {
        caught(|| change.tell(origin.name()));
    }
}
