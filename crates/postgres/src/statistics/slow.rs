use std::{
    cmp::Reverse,
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_core::Origin;
use tokio::time::Instant;

use crate::recent::{LONGEST, Text};

/// The most texts that are kept.
const MOST: usize = 128;
/// Who was not slow for so long gives way first.
const STALE: Duration = Duration::from_secs(60 * 60);

/// How a slow statement ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    /// With so many rows.
    Finished(u64),
    Failed,
    /// By a deadline, or its future was dropped.
    GivenUp,
}

/// The slow statements of one instance.
#[derive(Debug)]
pub(crate) struct Slow {
    /// In nanoseconds; as many as there can be are never reached.
    threshold: AtomicU64,
    count: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    list: HashMap<Arc<str>, SlowQuery>,
    log: Log,
}

impl Slow {
    pub(crate) fn new(threshold: Duration) -> Self {
        Self {
            threshold: AtomicU64::new(nanos(threshold)),
            count: AtomicU64::new(0),
            state: Mutex::default(),
        }
    }

    pub(crate) fn is_slow(&self, took: Duration) -> bool {
        let threshold = self.threshold.load(Relaxed);
        threshold != u64::MAX && nanos(took) >= threshold
    }

    /// None where nothing is slow.
    pub(crate) fn threshold(&self) -> Option<Duration> {
        Some(self.threshold.load(Relaxed)).filter(|nanos| *nanos != u64::MAX).map(Duration::from_nanos)
    }

    pub(crate) fn set_threshold(&self, threshold: Duration) {
        self.threshold.store(nanos(threshold), Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// Counts one, keeps it, and tells it to the log.
    pub(crate) fn record(
        &self,
        origin: Origin,
        text: &Arc<str>,
        ran: &Text,
        took: Duration,
        ending: Ending,
        now: Instant,
    ) {
        self.count.fetch_add(1, Relaxed);
        let told = {
            let mut state = self.lock();
            state.keep(text, ran, took, ending, now);
            state.log.tell(now)
        };
        let Some(untold) = told else { return };
        let (ending, rows) = match ending {
            Ending::Finished(rows) => ("finished", rows),
            Ending::Failed => ("failed", 0),
            Ending::GivenUp => ("given up", 0),
        };
        tracing::warn!(
            target: "buttress_postgres::slow_query",
            instance = origin.name(),
            text = &**text,
            duration = ?took,
            rows,
            ending,
            untold,
            "slow query"
        );
    }

    pub(crate) fn list(&self, limit: usize) -> Vec<SlowQuery> {
        let mut list: Vec<_> = self.lock().list.values().cloned().collect();
        list.sort_by_key(|slow| Reverse(slow.worst));
        list.truncate(limit);
        list
    }

    pub(crate) fn clear(&self) {
        self.lock().list.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl State {
    fn keep(&mut self, text: &Arc<str>, ran: &Text, took: Duration, ending: Ending, now: Instant) {
        if !self.list.contains_key(text) && !self.make_room(took, now) {
            return;
        }
        let kept = self.list.entry(Arc::clone(text)).or_insert_with(|| SlowQuery {
            text: Arc::clone(text),
            original: None,
            count: 0,
            failed: 0,
            given_up: 0,
            worst: Duration::ZERO,
            last_seen: now,
        });
        kept.count += 1;
        match ending {
            Ending::Finished(_) => {}
            Ending::Failed => kept.failed += 1,
            Ending::GivenUp => kept.given_up += 1,
        }
        kept.last_seen = now;
        if took > kept.worst || kept.count == 1 {
            kept.worst = took;
            kept.original = Original::of(ran).map(Arc::new);
        }
    }

    /// Whether there is room for one that took so long: whoever was not seen for an hour gives way, or else the quickest,
    /// if this one is slower.
    fn make_room(&mut self, took: Duration, now: Instant) -> bool {
        if self.list.len() < MOST {
            return true;
        }
        let stale = |query: &&SlowQuery| now.saturating_duration_since(query.last_seen) >= STALE;
        let oldest = self.list.values().filter(stale).min_by_key(|query| query.last_seen);
        let quickest =
            || self.list.values().min_by_key(|query| query.worst).filter(|query| query.worst < took);
        let Some(text) = oldest.or_else(quickest).map(|query| Arc::clone(&query.text)) else { return false };
        self.list.remove(&text);
        true
    }
}

/// How many events are told at once after a while of silence.
const BURST: u32 = 10;
/// Then one in this time.
const PACE: Duration = Duration::from_secs(1);

/// Keeps the log from being flooded where everything is slow: a bucket of [`BURST`] events, that fills by one each
/// [`PACE`].
#[derive(Debug, Default)]
struct Log {
    /// When the bucket will be full.
    full: Option<Instant>,
    untold: u64,
}

impl Log {
    /// Whether one more is told; if so, how many were not told before it.
    fn tell(&mut self, now: Instant) -> Option<u64> {
        let full = self.full.map_or(now, |full| full.max(now));
        if full - now > PACE * (BURST - 1) {
            self.untold += 1;
            return None;
        }
        self.full = Some(full + PACE);
        Some(std::mem::take(&mut self.untold))
    }
}

/// A text as it was sent, for `EXPLAIN`. Nothing shows it, since it has the literals.
pub(crate) struct Original {
    pub(crate) sql: Box<str>,
    pub(crate) parameters: usize,
}

impl Original {
    /// Nothing of a text that is too long to be kept.
    fn of(ran: &Text) -> Option<Self> {
        let fits = ran.sql.len() <= LONGEST;
        fits.then(|| Self { sql: ran.sql.clone(), parameters: ran.names.len() })
    }
}

/// A text whose statements were slow: one row of [`Postgres::slow_queries`](crate::Postgres::slow_queries).
#[derive(Clone)]
pub struct SlowQuery {
    text: Arc<str>,
    original: Option<Arc<Original>>,
    count: u64,
    failed: u64,
    given_up: u64,
    worst: Duration,
    last_seen: Instant,
}

impl SlowQuery {
    /// The normalised text, as [`StatementStats::text`](crate::StatementStats::text).
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many were slow.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many of these failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// How many of these were given up, by a deadline or a dropped future.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// The longest duration: until the last row, or until it failed or was given up.
    #[must_use]
    pub fn worst(&self) -> Duration {
        self.worst
    }

    /// When the last slow one ended.
    #[must_use]
    pub fn last_seen(&self) -> Instant {
        self.last_seen
    }

    pub(crate) fn original(&self) -> Option<&Original> {
        self.original.as_deref()
    }
}

impl fmt::Debug for Original {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Original").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

impl fmt::Debug for SlowQuery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowQuery")
            .field("text", &self.text)
            .field("count", &self.count)
            .field("failed", &self.failed)
            .field("given_up", &self.given_up)
            .field("worst", &self.worst)
            .field("last_seen", &self.last_seen)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
