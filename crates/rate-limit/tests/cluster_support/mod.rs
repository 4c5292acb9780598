//! A store that can be made to fail, and nodes that share a limit in virtual time.
#![allow(dead_code, reason = "each test program uses a part")]

use std::{
    fmt,
    future::{Future, pending},
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Waker},
    time::Duration,
};

use buttress_core::Rejected;
use buttress_rate_limit::{
    Limit, Rate,
    cluster::{Ask, ClusterLayer, ClusterLimiter, Grant, MemoryStore, Store},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What a [`FaultyStore`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Fault {
    #[default]
    None,
    /// It says that it failed.
    Fails,
    /// It takes the units and its answer is lost.
    Hangs,
    /// It neither takes units nor answers.
    BlackHole,
    /// Before it answers.
    Panics,
    /// In its first line, before there is a future.
    PanicsAtOnce,
    /// It grants more than it was asked for.
    Overgenerous,
    /// One answer too few.
    Forgetful,
}

/// A [`MemoryStore`] behind a network that a test controls. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct FaultyStore {
    memory: MemoryStore,
    control: Arc<Control>,
}

#[derive(Default)]
pub(crate) struct Control {
    fault: Mutex<Fault>,
    /// One way, in microseconds.
    latency: AtomicU64,
    pub(crate) round_trips: AtomicU64,
    pub(crate) asks: AtomicU64,
    /// The asks, if somebody wants to see them.
    pub(crate) seen: Mutex<Option<Vec<Ask>>>,
    /// Asks for keys that end in an `x` fail.
    pub(crate) fails_some: AtomicBool,
}

#[derive(Debug)]
pub(crate) struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it was told to fail")
    }
}

impl std::error::Error for Failed {}

impl FaultyStore {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Another way to the same memory, with faults and counts of its own.
    pub(crate) fn another(&self) -> Self {
        Self { memory: self.memory.clone(), control: Arc::default() }
    }

    pub(crate) fn set(&self, fault: Fault) {
        *self.control.fault.lock().unwrap() = fault;
    }

    pub(crate) fn set_latency(&self, one_way: Duration) {
        self.control.latency.store(one_way.as_micros() as u64, SeqCst);
    }

    pub(crate) fn control(&self) -> &Control {
        &self.control
    }

    pub(crate) fn watch(&self) {
        *self.control.seen.lock().unwrap() = Some(Vec::new());
    }

    pub(crate) fn seen(&self) -> Vec<Ask> {
        self.control.seen.lock().unwrap().as_mut().map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn round_trips(&self) -> u64 {
        self.control.round_trips.load(SeqCst)
    }

    pub(crate) fn fault(&self) -> Fault {
        *self.control.fault.lock().unwrap()
    }

    async fn travel(&self) {
        let latency = self.control.latency.load(SeqCst);
        if latency > 0 {
            sleep(Duration::from_micros(latency)).await;
        }
    }
}

impl Store for FaultyStore {
    type Error = Failed;

    fn take(&self, asks: Vec<Ask>) -> impl Future<Output = Vec<Result<Grant, Failed>>> + Send {
        let fault = self.fault();
        assert!(fault != Fault::PanicsAtOnce, "told to");
        let control = Arc::clone(&self.control);
        control.round_trips.fetch_add(1, SeqCst);
        control.asks.fetch_add(asks.len() as u64, SeqCst);
        if let Some(seen) = &mut *control.seen.lock().unwrap() {
            seen.extend(asks.iter().cloned());
        }
        async move {
            self.travel().await;
            match fault {
                Fault::Fails => return asks.iter().map(|_| Err(Failed)).collect(),
                Fault::BlackHole => pending().await,
                Fault::Panics => panic!("told to"),
                _ => {}
            }
            let keys: Vec<_> = asks.iter().map(|ask| ask.subject.key().map(<[u8]>::to_vec)).collect();
            let answers = self.memory.take(asks).await;
            let mut answers: Vec<_> =
                answers.into_iter().map(|answer| answer.map_err(|never| match never {})).collect();
            if fault == Fault::Hangs {
                pending().await
            }
            self.travel().await;
            if fault == Fault::Overgenerous {
                answers.iter_mut().flatten().for_each(|grant| grant.units += 1_000);
            }
            if fault == Fault::Forgetful {
                answers.pop();
            }
            if control.fails_some.load(Relaxed) {
                for (answer, key) in answers.iter_mut().zip(keys) {
                    if key.is_some_and(|key| key.ends_with(b"x")) {
                        *answer = Err(Failed);
                    }
                }
            }
            answers
        }
    }
}

/// What was admitted, and when, in milliseconds.
#[derive(Clone)]
pub(crate) struct Record(Arc<Mutex<Log>>, Instant);

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) admitted: Vec<u32>,
    pub(crate) refused: u64,
    pub(crate) longest: Duration,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self(Arc::default(), Instant::now())
    }

    /// Of all of them together.
    pub(crate) fn sum(records: &[Self]) -> Self {
        let all = Self(Arc::default(), records[0].1);
        for record in records {
            let (admitted, refused, longest) =
                record.log(|log| (log.admitted.clone(), log.refused, log.longest));
            all.log(|log| {
                log.admitted.resize(log.admitted.len().max(admitted.len()), 0);
                log.admitted.iter_mut().zip(&admitted).for_each(|(sum, n)| *sum += n);
                log.refused += refused;
                log.longest = log.longest.max(longest);
            });
        }
        all
    }

    pub(crate) fn log<R>(&self, with: impl FnOnce(&mut Log) -> R) -> R {
        with(&mut self.0.lock().unwrap())
    }

    fn note(&self, asked: Instant, units: u32, result: &Result<(), Rejected>) {
        let now = Instant::now();
        self.log(|log| {
            log.longest = log.longest.max(now - asked);
            match result {
                Ok(()) => {
                    let at = (now - self.1).as_millis() as usize;
                    if log.admitted.len() <= at {
                        log.admitted.resize(at + 1, 0);
                    }
                    log.admitted[at] += units;
                }
                Err(_) => log.refused += 1,
            }
        });
    }

    /// Calls, without waiting for the outcome.
    pub(crate) fn call(&self, limiter: &ClusterLimiter, units: u32) {
        let (record, limiter, asked) = (self.clone(), limiter.clone(), Instant::now());
        let mut call = Box::pin(async move { limiter.acquire(units).await });
        if let std::task::Poll::Ready(result) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.note(asked, units, &result);
            return;
        }
        tokio::spawn(async move {
            let result = call.await;
            record.note(asked, units, &result);
        });
    }

    pub(crate) fn admitted(&self) -> u64 {
        self.log(|log| log.admitted.iter().map(|n| u64::from(*n)).sum())
    }

    pub(crate) fn decided(&self) -> u64 {
        self.admitted() + self.log(|log| log.refused)
    }

    /// The most in any window of that length, and when it begins.
    pub(crate) fn worst(&self, window: Duration) -> (u64, usize) {
        self.worst_within(window, 0, usize::MAX)
    }

    /// The same, of windows that begin in that time.
    pub(crate) fn worst_within(&self, window: Duration, from: usize, to: usize) -> (u64, usize) {
        self.log(|log| {
            let window = window.as_millis() as usize;
            let mut worst = (0, 0);
            let mut sum: u64 = 0;
            for (at, n) in log.admitted.iter().enumerate() {
                sum += u64::from(*n);
                if at >= window {
                    sum -= u64::from(log.admitted[at - window]);
                }
                let begin = at.saturating_sub(window - 1);
                if (from..to).contains(&begin) && sum > worst.0 {
                    worst = (sum, begin);
                }
            }
            worst
        })
    }
}

/// Splitmix64: a test's own dice, so that a seed says everything.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// About so many, at random: what comes in a millisecond at that rate.
    pub(crate) fn arrivals(&mut self, mean: f64) -> u32 {
        // Knuth's way: until the product of chances is below that of none.
        let end = (-mean).exp();
        let (mut n, mut chance) = (0, 1.0);
        loop {
            chance *= (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
            if chance <= end {
                return n;
            }
            n += 1;
        }
    }
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn per_second(units: u32) -> Limit {
    Limit::from(Rate::per_second(units))
}

pub(crate) fn exact(name: &str, units: u32, store: &FaultyStore) -> ClusterLimiter {
    ClusterLayer::builder(name, per_second(units), store.clone()).build().limiter()
}

pub(crate) fn leased(name: &str, units: u32, store: &FaultyStore) -> ClusterLimiter {
    ClusterLayer::builder(name, per_second(units), store.clone()).leased().build().limiter()
}

/// So many calls at once; those that were admitted, and why the others were not.
pub(crate) async fn burst(limiter: &ClusterLimiter, calls: usize) -> (usize, Vec<Rejected>) {
    let mut set = JoinSet::new();
    for _ in 0..calls {
        let limiter = limiter.clone();
        set.spawn(async move { limiter.acquire(1).await });
    }
    let (admitted, refused): (Vec<_>, Vec<_>) = set.join_all().await.into_iter().partition(Result::is_ok);
    (admitted.len(), refused.into_iter().map(Result::unwrap_err).collect())
}
