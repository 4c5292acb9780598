use std::{
    fmt,
    sync::{
        Weak,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
};

use tokio::time::Instant;

use crate::{
    Endpoint,
    config::{Nanos, nanos},
    load::{Load, Pace},
    pool::Pool,
    rotation::Tally,
    shown::Gone,
    verdicts::Verdicts,
};

/// With how much of its share an endpoint begins.
const LEAST_SHARE: f32 = 0.1;

/// An endpoint and what is known about it. Whoever replaces it under its key is another one.
pub(crate) struct Member<K, S> {
    pub(crate) key: K,
    /// The key as it is written into events.
    pub(crate) label: Box<str>,
    /// The key as it is compared with those of calls.
    pub(crate) hash: u64,
    pub(crate) endpoint: Endpoint<S>,
    /// For what is rare. A call that ends well must not count references to what all calls share.
    pub(crate) pool: Weak<Pool<K, S>>,
    pub(crate) began: Instant,
    pub(crate) pace: Pace,
    pub(crate) state: State,
}

/// What every call on the endpoint writes, on lines of its own.
#[derive(Debug)]
#[repr(align(128))]
pub(crate) struct State {
    pub(crate) load: Load,
    pub(crate) verdicts: Verdicts,
    pub(crate) pending: AtomicU32,
    pub(crate) successes: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) ejections: AtomicU64,
    /// It has said that it wants no calls before.
    pub(crate) avoided_until: AtomicU64,
    /// Its slow start is over then.
    pub(crate) settled_at: AtomicU64,
    removed: Gone,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            load: Load::new(),
            verdicts: Verdicts::new(),
            pending: AtomicU32::new(0),
            successes: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            avoided_until: AtomicU64::new(0),
            settled_at: AtomicU64::new(0),
            removed: Gone::new(),
        }
    }

    /// Takes over what is known about an endpoint of the same key.
    pub(crate) fn inherit(&self, other: &Self) {
        self.load.inherit(&other.load);
        for (mine, theirs) in [
            (&self.successes, &other.successes),
            (&self.failures, &other.failures),
            (&self.ejections, &other.ejections),
            (&self.settled_at, &other.settled_at),
        ] {
            mine.store(theirs.load(Relaxed), Relaxed);
        }
    }

    pub(crate) fn remove(&self) {
        self.removed.set();
    }

    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        self.removed.is_set()
    }

    #[inline]
    pub(crate) fn is_avoided(&self, now: Nanos) -> bool {
        self.avoided_until.load(Relaxed) > now
    }

    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        self.pending.load(Relaxed)
    }

    /// The share of its calls that it gets, while it starts slowly: from a tenth to 1.
    #[inline]
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(crate) fn share(&self, now: Nanos, slow_start: Nanos) -> f32 {
        let settled_at = self.settled_at.load(Relaxed);
        if settled_at <= now {
            return 1.0;
        }
        let left = (settled_at - now) as f32 / slow_start as f32;
        (1.0 - left).max(LEAST_SHARE)
    }

    /// What it costs to send it one more call, where one takes so long.
    ///
    /// The latency is squared. By latency times pending calls alone (Finagle), many clients keep one that is ten times as
    /// slow as its peers at a hundredth of what each of those gets: the last hundredth of all calls would be its. Squared, it
    /// is a thousandth.
    #[inline]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "a cost")]
    pub(crate) fn cost(&self, latency: f32, weight: f64) -> f32 {
        latency * latency * (self.pending() as f32 + 1.0) / weight as f32
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally { successes: self.successes.load(Relaxed), failures: self.failures.load(Relaxed) }
    }

    pub(crate) fn latency(&self, now: Nanos, pace: &Pace) -> f32 {
        self.load.estimate(now, pace)
    }
}

impl<K, S> Member<K, S> {
    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        nanos(Instant::now().saturating_duration_since(self.began))
    }
}

impl<K, S> fmt::Debug for Member<K, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("key", &self.label).field("state", &self.state).finish_non_exhaustive()
    }
}
