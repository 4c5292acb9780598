use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use buttress_core::{Metric, Value, thread_number};

/// Threads whose calls have a line of their own, which only they write. The others share the last one.
const THREADS: usize = 15;

/// What every call counts, of one thread.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line {
    hits: AtomicU64,
    misses: AtomicU64,
    loads: AtomicU64,
}

/// What the layer counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    lines: [Line; THREADS + 1],
    pub(crate) stale: AtomicU64,
    pub(crate) coalesced: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) refreshes: AtomicU64,
    pub(crate) invalidations: AtomicU64,
    pub(crate) passed: AtomicU64,
    pub(crate) store_hits: AtomicU64,
    pub(crate) store_errors: AtomicU64,
}

impl Counters {
    #[inline]
    pub(crate) fn hit(&self) {
        add_own(&self.lines, |line| &line.hits);
    }

    #[inline]
    pub(crate) fn miss(&self) {
        add_own(&self.lines, |line| &line.misses);
    }

    #[inline]
    pub(crate) fn load(&self) {
        add_own(&self.lines, |line| &line.loads);
    }

    pub(crate) fn hits(&self) -> u64 {
        sum(&self.lines, |line| &line.hits)
    }

    pub(crate) fn misses(&self) -> u64 {
        sum(&self.lines, |line| &line.misses)
    }

    pub(crate) fn loads(&self) -> u64 {
        sum(&self.lines, |line| &line.loads)
    }
}

/// One figure that threads count without a line in common.
#[derive(Debug, Default)]
pub(crate) struct Tally([Single; THREADS + 1]);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Single(AtomicU64);

impl Tally {
    #[inline]
    pub(crate) fn add_one(&self) {
        add_own(&self.0, |single| &single.0);
    }

    pub(crate) fn sum(&self) -> u64 {
        sum(&self.0, |single| &single.0)
    }
}

/// Adds one in this thread's line.
#[inline]
fn add_own<L>(lines: &[L; THREADS + 1], figure: impl FnOnce(&L) -> &AtomicU64) {
    let thread = thread_number();
    let count = figure(&lines[thread.min(THREADS)]);
    if thread < THREADS {
        count.store(count.load(Relaxed) + 1, Relaxed);
    } else {
        count.fetch_add(1, Relaxed);
    }
}

fn sum<L>(lines: &[L], figure: impl Fn(&L) -> &AtomicU64) -> u64 {
    lines.iter().map(|line| figure(line).load(Relaxed)).sum()
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// The figures of a cache since it was built: see [`Cache::stats`](crate::Cache::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that were answered with a fresh value of this process's memory.
    pub hits: u64,
    /// Calls that were answered with a stale one: while it was loaded anew, or because that failed.
    pub stale: u64,
    /// Calls that found nothing to be served, and loaded or waited.
    pub misses: u64,
    /// Those of them that waited for another's load.
    pub coalesced: u64,
    /// Loads that came to their end, those in the background included.
    pub loads: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Loads in the background that were begun.
    pub refreshes: u64,
    /// Keys and tags that were invalidated, by this process or another, and how often everything was.
    pub invalidations: u64,
    /// Calls without a key, which went past the cache.
    pub passed: u64,
    /// Values that the store behind the memory had.
    pub store_hits: u64,
    /// Times that it failed. Where that was a load's question, it is left alone for a second then.
    pub store_errors: u64,
    /// Values that were driven out of the memory to make room.
    pub evicted: u64,
    /// Values in memory, those past their time included.
    pub entries: u64,
    /// What they weigh together.
    pub weight: u64,
}

impl Stats {
    pub(crate) fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let counters = [
            ("hits", self.hits),
            ("stale", self.stale),
            ("misses", self.misses),
            ("coalesced", self.coalesced),
            ("loads", self.loads),
            ("failures", self.failures),
            ("refreshes", self.refreshes),
            ("invalidations", self.invalidations),
            ("passed", self.passed),
            ("store_hits", self.store_hits),
            ("store_errors", self.store_errors),
            ("evicted", self.evicted),
        ];
        counters.into_iter().for_each(|(name, value)| visit(Metric::new(name, Value::Counter(value))));
        visit(Metric::new("entries", Value::Gauge(self.entries as f64)));
        visit(Metric::new("weight", Value::Gauge(self.weight as f64)));
    }
}
