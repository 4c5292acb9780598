use std::time::Duration;

use tokio::time::Instant;

use super::{
    Adaptive, Algorithm,
    machine::{Machine, Sample},
};
use crate::{
    permits::Permits,
    sync::{
        AtomicU64, AtomicUsize, Mutex, Padded, PoisonError, Relaxed, SeqCst, TryLockError, lock,
        thread_number,
    },
};

/// Gathers what the calls of a window say, in one cell for each stripe of permits, and hands it to the machine when the
/// window closes. Whoever records a call then closes it; nobody waits for that.
#[derive(Debug)]
pub(crate) struct Gather {
    base: Instant,
    window: u64,
    slow_call: u64,
    /// Whether a success that took too long is bad.
    times_success: bool,
    adaptive: Adaptive,
    cells: Box<[Padded<Cell>]>,
    /// When the window may close, in nanoseconds since the base.
    closes_at: AtomicU64,
    closing: Padded<Mutex<Closing>>,
}

#[derive(Debug)]
struct Closing {
    machine: Machine,
    /// What has been taken out of the cells in this window.
    total: Total,
    peak: usize,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
    /// Bad if it took long, else nothing.
    Dropped,
}

/// A window of fewer calls goes on.
const FEWEST: u64 = 10;

impl Gather {
    pub(crate) fn new(adaptive: Adaptive, cells: usize) -> Self {
        let window = nanos(adaptive.window);
        Self {
            base: Instant::now(),
            window,
            slow_call: nanos(adaptive.slow_call),
            times_success: adaptive.algorithm == Algorithm::Aimd,
            adaptive,
            cells: (0..cells).map(|_| Padded::default()).collect(),
            closes_at: AtomicU64::new(window),
            closing: Padded(Mutex::new(Closing::new(adaptive))),
        }
    }

    /// That moment on its own clock, which begins at 1.
    #[inline]
    pub(crate) fn nanos(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.base)) + 1
    }

    /// Whether its clock runs. (One that was made later, on the clock of another test, would see time stand still.)
    pub(crate) fn runs(&self) -> bool {
        Instant::now() >= self.base
    }

    /// As good as new.
    pub(crate) fn renew(&self) {
        let mut closing = lock(&self.closing.0);
        self.drain(&mut closing);
        *closing = Closing::new(self.adaptive);
        self.closes_at.store(self.nanos(Instant::now()) + self.window, Relaxed);
    }

    pub(crate) fn set_limit(&self, permits: &Permits, limit: u32) {
        let mut closing = lock(&self.closing.0);
        closing.machine.set(limit);
        permits.set_limit(limit as usize);
    }

    fn cell(&self) -> &Cell {
        &self.cells[thread_number() & (self.cells.len() - 1)].0
    }

    /// All permits are held.
    #[cold]
    pub(crate) fn saw_full(&self, permits: &Permits) {
        self.cell().saw(permits.in_flight());
    }

    /// A call ended that had begun to wait at `started`, on this clock; zero where it never waited. Its permit is still
    /// held, and wakes those whom a higher limit lets in when it is given back.
    pub(crate) fn record(&self, permits: &Permits, started: u64, verdict: Verdict, now: Instant) {
        let now = self.nanos(now);
        let took = if started == 0 { 0 } else { now.saturating_sub(started) };
        let slow = took >= self.slow_call;
        let one = match verdict {
            Verdict::Dropped if !slow => return,
            Verdict::Good if !(slow && self.times_success) => Total::good(took),
            _ => Total::BAD,
        };
        let cell = self.cell();
        let before = loop {
            match cell.add(&one) {
                Some(before) => break before,
                // So many calls in one window: nothing may be lost.
                None => self.drain(&mut lock(&self.closing.0)),
            }
        };
        // Counting what is in flight reads every stripe, which the threads that write them pay for.
        if (before.good + before.bad).is_multiple_of(16) {
            cell.saw(permits.in_flight());
        }
        if now >= self.closes_at.load(Relaxed) {
            self.close(permits, now);
        }
    }

    #[cold]
    fn close(&self, permits: &Permits, now: u64) {
        let mut closing = match self.closing.0.try_lock() {
            Ok(closing) => closing,
            Err(TryLockError::Poisoned(poisoned)) => PoisonError::into_inner(poisoned),
            Err(TryLockError::WouldBlock) => return,
        };
        if now < self.closes_at.load(Relaxed) {
            return;
        }
        self.drain(&mut closing);
        let total = closing.total;
        if total.good + total.bad < FEWEST {
            return;
        }
        self.closes_at.store(now + self.window, Relaxed);
        let peak = closing.peak.max(permits.in_flight());
        (closing.total, closing.peak) = (Total::default(), 0);
        let before = closing.machine.limit();
        let limit = closing.machine.update(&Sample {
            good: total.good,
            bad: total.bad,
            latency: Duration::from_nanos(total.nanos.checked_div(total.good).unwrap_or(0)),
            in_flight: u32::try_from(peak).unwrap_or(u32::MAX),
        });
        if limit != before {
            permits.set_limit(limit as usize);
        }
    }

    fn drain(&self, closing: &mut Closing) {
        for Padded(cell) in &self.cells {
            let (total, peak) = cell.take();
            closing.total = closing.total.plus(&total);
            closing.peak = closing.peak.max(peak);
        }
    }
}

impl Closing {
    fn new(adaptive: Adaptive) -> Self {
        Self { machine: Machine::new(adaptive), total: Total::default(), peak: 0 }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// Calls that ended. In a cell it is one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Total {
    good: u64,
    bad: u64,
    /// What the good ones took together.
    nanos: u64,
}

const COUNT: u32 = 10;
const NANOS: u32 = 64 - 2 * COUNT;
/// So many calls of the longest duration that is told apart fit into a cell.
const LONGEST: u64 = mask(NANOS) / mask(COUNT);

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

impl Total {
    const BAD: Self = Self { good: 0, bad: 1, nanos: 0 };

    fn good(took: u64) -> Self {
        Self { good: 1, bad: 0, nanos: took.min(LONGEST) }
    }

    const fn plus(&self, other: &Self) -> Self {
        Self { good: self.good + other.good, bad: self.bad + other.bad, nanos: self.nanos + other.nanos }
    }

    const fn fits(&self) -> bool {
        self.good <= mask(COUNT) && self.bad <= mask(COUNT)
    }

    const fn pack(&self) -> u64 {
        self.good << (COUNT + NANOS) | self.bad << NANOS | self.nanos
    }

    const fn unpack(word: u64) -> Self {
        Self { good: word >> (COUNT + NANOS), bad: word >> NANOS & mask(COUNT), nanos: word & mask(NANOS) }
    }
}

#[derive(Debug, Default)]
struct Cell {
    total: AtomicU64,
    peak: AtomicUsize,
}

impl Cell {
    /// Adds a call, if it fits, and says what was there before.
    fn add(&self, one: &Total) -> Option<Total> {
        let mut word = self.total.load(Relaxed);
        loop {
            let before = Total::unpack(word);
            let after = before.plus(one);
            if !after.fits() {
                return None;
            }
            match self.total.compare_exchange_weak(word, after.pack(), Relaxed, Relaxed) {
                Ok(_) => return Some(before),
                Err(now) => word = now,
            }
        }
    }

    fn saw(&self, in_flight: usize) {
        if in_flight > self.peak.load(Relaxed) {
            self.peak.fetch_max(in_flight, Relaxed);
        }
    }

    fn take(&self) -> (Total, usize) {
        let word = if self.total.load(Relaxed) == 0 { 0 } else { self.total.swap(0, SeqCst) };
        let peak = if self.peak.load(Relaxed) == 0 { 0 } else { self.peak.swap(0, Relaxed) };
        (Total::unpack(word), peak)
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::*;

    #[test]
    fn loom_no_call_is_lost_or_counted_twice() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = builder.preemption_bound.or(Some(2));
        builder.check(|| {
            let cell = Arc::new(Cell::default());
            assert!(cell.add(&Total::good(2)).is_some());
            let others = [Total::BAD, Total::good(5)].map(|one| {
                let cell = Arc::clone(&cell);
                thread::spawn(move || assert!(cell.add(&one).is_some()))
            });
            let early = cell.take().0;
            others.into_iter().for_each(|other| other.join().unwrap());
            let all = early.plus(&cell.take().0);
            assert_eq!(all, Total { good: 2, bad: 1, nanos: 7 });
        });
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_keeps_everything(word: u64) {
            prop_assert_eq!(Total::unpack(word).pack(), word);
        }

        #[test]
        fn a_cell_adds_up_until_it_is_full(calls in prop::collection::vec((any::<bool>(), any::<u64>()), 0..3000)) {
            let cell = Cell::default();
            let mut sum = Total::default();
            for (good, took) in calls {
                let one = if good { Total::good(took) } else { Total::BAD };
                match cell.add(&one) {
                    Some(before) => prop_assert_eq!(before, sum),
                    None => {
                        prop_assert!(sum.good == mask(COUNT) || sum.bad == mask(COUNT));
                        prop_assert_eq!(cell.take().0, sum);
                        sum = Total::default();
                        prop_assert!(cell.add(&one).is_some());
                    }
                }
                sum = sum.plus(&one);
            }
        }
    }
}
