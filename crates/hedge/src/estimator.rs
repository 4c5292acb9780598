//! A percentile of what the last calls took, in constant memory, without a lock on anybody's way.
//!
//! Times are counted in two histograms: one of the window that runs, and one of the window before. When the window that
//! runs is full, the older one is emptied and becomes the next. So the percentile is that of the last one to two windows,
//! and nothing older weighs in it.
//!
//! A window is full once it has enough calls, so that what is seldom is counted often enough, and has lasted for a while, so
//! that a short stall does not become the norm.
//!
//! Calls that were ready at once are only counted, on a cache line of their thread's processor. They read no clock.

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(all(test, not(buttress_loom)))]
mod tests;

use std::time::Duration;

use buttress_core::thread_number;
use tokio::time::Instant;

use crate::{
    histogram::Histogram,
    sync::{Acquire, AtomicU64, AtomicUsize, Mutex, Padded, Relaxed, Release, TryLockError},
};

/// The percentile is made anew after so many calls that had to wait, of each thread.
const REFRESH: u64 = if cfg!(buttress_loom) { 1 } else { 16 };
/// A window lasts at least so long.
const SHORTEST: Duration = Duration::from_secs(5);
/// So many calls must have been slower than the percentile.
const BEYOND: f64 = if cfg!(buttress_loom) { 0.5 } else { 5.0 };
/// A window has at least so many calls.
const FEWEST: u64 = if cfg!(buttress_loom) { 1 } else { 500 };
const UNKNOWN: u64 = u64::MAX;

#[derive(Debug)]
pub(crate) struct Estimator {
    share: f64,
    needed: u64,
    window: u64,
    /// Which of the windows runs.
    running: AtomicUsize,
    windows: [Histogram; 2],
    stripes: Box<[Padded<Stripe>]>,
    turn: Mutex<Turn>,
    /// What was made of it all, in nanoseconds.
    quantile: AtomicU64,
    median: AtomicU64,
}

#[derive(Debug)]
struct Stripe {
    at_once: AtomicU64,
    others: AtomicU64,
    recorded: AtomicU64,
}

/// What belongs to the one who refreshes.
#[derive(Debug, Default)]
struct Turn {
    began: Option<Instant>,
    /// How many were ready at once when the window began, and when the one before did.
    at_once_then: u64,
    at_once_before: u64,
}

impl Estimator {
    /// `stripes` is a power of two.
    pub(crate) fn new(share: f64, stripes: usize) -> Self {
        let stripe = |_| {
            Padded(Stripe {
                at_once: AtomicU64::new(0),
                others: AtomicU64::new(0),
                recorded: AtomicU64::new(0),
            })
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 5000")]
        let needed = (BEYOND / (1.0 - share)).ceil() as u64;
        Self {
            share,
            needed,
            window: FEWEST.max(2 * needed),
            running: AtomicUsize::new(0),
            windows: [Histogram::new(), Histogram::new()],
            stripes: (0..stripes).map(stripe).collect(),
            turn: Mutex::new(Turn::default()),
            quantile: AtomicU64::new(UNKNOWN),
            median: AtomicU64::new(0),
        }
    }

    /// Forgets everything.
    pub(crate) fn renew(&self) {
        let mut turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *turn = Turn::default();
        self.windows.iter().for_each(Histogram::clear);
        for Padded(stripe) in &self.stripes {
            let counts = [&stripe.at_once, &stripe.others, &stripe.recorded];
            counts.into_iter().for_each(|count| count.store(0, Relaxed));
        }
        self.median.store(0, Relaxed);
        self.quantile.store(UNKNOWN, Relaxed);
    }

    /// Counts a call that was ready at once.
    #[inline]
    pub(crate) fn at_once(&self) {
        self.stripe().at_once.fetch_add(1, Relaxed);
    }

    /// Counts a call that says nothing by itself: it fails at once, or waits, and is then recorded or not.
    pub(crate) fn other(&self) {
        self.stripe().others.fetch_add(1, Relaxed);
    }

    /// How many calls were counted.
    pub(crate) fn calls(&self) -> u64 {
        self.all_at_once() + self.stripes.iter().map(|stripe| stripe.0.others.load(Relaxed)).sum::<u64>()
    }

    /// What a call that had to wait took until `now`.
    pub(crate) fn record(&self, took: Duration, now: Instant) {
        // It was emptied before it was given out.
        self.windows[self.running.load(Acquire)].record(took);
        let is_due = (self.stripe().recorded.fetch_add(1, Relaxed) + 1).is_multiple_of(REFRESH);
        // The first one as soon as it can be, on however many threads.
        if is_due || self.quantile.load(Relaxed) == UNKNOWN {
            self.refresh(now);
        }
    }

    /// The percentile, where enough is known.
    pub(crate) fn quantile(&self) -> Option<Duration> {
        let nanos = self.quantile.load(Relaxed);
        (nanos != UNKNOWN).then(|| Duration::from_nanos(nanos))
    }

    /// What half of the calls take; zero where not enough is known.
    pub(crate) fn median(&self) -> Duration {
        Duration::from_nanos(self.median.load(Relaxed))
    }

    #[cfg(test)]
    fn total(&self) -> u64 {
        self.windows.iter().map(|window| window.counts().total()).sum::<u64>() + self.all_at_once()
    }

    fn stripe(&self) -> &Stripe {
        &self.stripes[thread_number() & (self.stripes.len() - 1)].0
    }

    fn all_at_once(&self) -> u64 {
        self.stripes.iter().map(|stripe| stripe.0.at_once.load(Relaxed)).sum()
    }

    /// Makes the percentile anew, unless somebody is about it.
    #[cold]
    fn refresh(&self, now: Instant) {
        let mut turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let at_once = self.all_at_once();
        let running = self.running.load(Relaxed);
        let [mut new, mut old] = [running, 1 - running].map(|window| self.windows[window].counts());
        new.at_once = at_once.saturating_sub(turn.at_once_then);
        old.at_once = turn.at_once_then.saturating_sub(turn.at_once_before);

        let lasted = now.saturating_duration_since(*turn.began.get_or_insert(now));
        let is_full = new.total() >= self.window && lasted >= SHORTEST;
        let all = if is_full { new } else { new.and(&old) };
        if all.total() >= self.needed {
            self.median.store(nanos(all.quantile(0.5)), Relaxed);
            self.quantile.store(nanos(all.quantile(self.share)), Relaxed);
        }
        if is_full {
            self.windows[1 - running].clear();
            self.running.store(1 - running, Release);
            *turn = Turn { began: Some(now), at_once_then: at_once, at_once_before: turn.at_once_then };
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(UNKNOWN - 1)
}
