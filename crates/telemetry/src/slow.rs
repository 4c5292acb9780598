use std::{
    cmp::Reverse,
    collections::VecDeque,
    sync::{Arc, PoisonError, TryLockError},
    time::Duration,
};

use serde::Serialize;
use tokio::time::Instant;

use crate::sync::{AtomicU64, Mutex, MutexGuard, Relaxed};

/// A call that took longer than its layer allows for.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SlowCall {
    /// When it ended, in milliseconds of Unix time.
    pub at: u64,
    /// The name of the telemetry layer.
    pub name: &'static str,
    /// What was called, at most 200 bytes of it.
    pub operation: String,
    /// How long it took.
    pub seconds: f64,
    /// How it ended, as in a snapshot: `success`, `failure`, ...
    pub end: &'static str,
    /// The kind of error, where it was one.
    pub error: Option<String>,
    /// The trace in which it can be looked up, where there is one.
    pub trace_id: Option<String>,
    /// What the layers decided meanwhile.
    pub decisions: Vec<SlowDecision>,
}

/// What a layer decided about a slow call.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SlowDecision {
    /// How long after the call's beginning.
    pub after_seconds: f64,
    /// The kind of layer.
    pub layer: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it did.
    pub what: &'static str,
    /// On which figures, at most 200 bytes.
    pub why: String,
}

/// The slow calls of all layers of a registry: the latest, and the slowest of an hour.
///
/// Two lists, since either alone hides something: a flood of calls that are just slow would drive out the one that took a
/// minute, and the slowest of last week would hide today's.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    lists: Mutex<Lists>,
    /// Where a call is left that finds the lists in use.
    beside: Mutex<Vec<Kept>>,
    /// How many there were. More than are kept.
    total: AtomicU64,
}

#[derive(Debug, Default)]
struct Lists {
    /// The oldest first.
    latest: VecDeque<Kept>,
    slowest: Vec<Kept>,
}

#[derive(Debug, Clone)]
struct Kept {
    call: Arc<SlowCall>,
    ended: Instant,
}

impl SlowLog {
    /// More are not kept, neither of the latest nor of the slowest.
    pub(crate) const MAX: usize = 128;
    /// What ended longer ago is none of the slowest any more.
    pub(crate) const AGE: Duration = Duration::from_secs(60 * 60);
    /// How many bytes of a text are kept.
    const TEXT: usize = 200;
    /// How many calls may lie beside the lists.
    const BESIDE: usize = 16;

    /// Keeps it. A call never waits: one that finds the lists in use leaves what it has beside them, and is counted only
    /// where that place, too, is in use or full.
    pub(crate) fn push(&self, mut call: SlowCall) {
        self.total.fetch_add(1, Relaxed);
        cut(&mut call.operation);
        call.error.iter_mut().for_each(cut);
        call.trace_id.iter_mut().for_each(cut);
        call.decisions.truncate(buttress_core::Decisions::MAX);
        call.decisions.iter_mut().for_each(|decision| cut(&mut decision.why));
        let kept = Kept { call: Arc::new(call), ended: Instant::now() };
        if let Some(mut lists) = unless_in_use(&self.lists) {
            if let Some(mut beside) = unless_in_use(&self.beside) {
                beside.drain(..).for_each(|kept| lists.keep(kept));
            }
            lists.keep(kept);
        } else if let Some(mut beside) = unless_in_use(&self.beside)
            && beside.len() < Self::BESIDE
        {
            beside.push(kept);
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.total.load(Relaxed)
    }

    /// The slowest of the last hour, the slowest first.
    pub(crate) fn slowest(&self, limit: usize) -> Vec<SlowCall> {
        let now = Instant::now();
        let mut calls = self.read(|lists| lists.slowest.clone());
        calls.retain(|kept| kept.is_young(now));
        calls.sort_by(|a, b| b.call.seconds.total_cmp(&a.call.seconds));
        copies(calls, limit)
    }

    /// The latest, however long ago they were, the latest first.
    pub(crate) fn latest(&self, limit: usize) -> Vec<SlowCall> {
        let mut calls = self.read(|lists| lists.latest.iter().rev().cloned().collect());
        calls.sort_by_key(|kept| Reverse(kept.ended));
        copies(calls, limit)
    }

    /// Takes no more than references while calls would find the lists in use.
    fn read(&self, take: impl FnOnce(&Lists) -> Vec<Kept>) -> Vec<Kept> {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        let mut beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner);
        beside.drain(..).for_each(|kept| lists.keep(kept));
        take(&lists)
    }
}

impl Lists {
    fn keep(&mut self, kept: Kept) {
        if self.slowest.len() < SlowLog::MAX {
            self.slowest.push(kept.clone());
        } else if let Some(place) = self.place_for(&kept) {
            self.slowest[place] = kept.clone();
        }
        if self.latest.len() == SlowLog::MAX {
            self.latest.pop_front();
        }
        self.latest.push_back(kept);
    }

    /// Whose place among the slowest it takes: that of one too old, or else of the quickest, if this one is slower.
    fn place_for(&self, kept: &Kept) -> Option<usize> {
        let places = self.slowest.iter().enumerate();
        if let Some((old, _)) = places.clone().find(|(_, known)| !known.is_young(kept.ended)) {
            return Some(old);
        }
        let quickest = places.min_by(|(_, a), (_, b)| a.call.seconds.total_cmp(&b.call.seconds));
        quickest.filter(|(_, known)| known.call.seconds < kept.call.seconds).map(|(place, _)| place)
    }
}

impl Kept {
    fn is_young(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.ended) < SlowLog::AGE
    }
}

fn copies(calls: Vec<Kept>, limit: usize) -> Vec<SlowCall> {
    calls.into_iter().take(limit).map(|kept| SlowCall::clone(&kept.call)).collect()
}

/// `None` where somebody holds it. No code of others runs in it, so it cannot have been left half done by a panic.
fn unless_in_use<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Keeps what stands at the beginning, and shows that there was more.
fn cut(text: &mut String) {
    const MORE: &str = "…";
    if text.len() > SlowLog::TEXT {
        let end = (0..=SlowLog::TEXT - MORE.len()).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str(MORE);
        text.shrink_to_fit();
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use loom::{sync::Arc, thread};

    use super::*;

    fn model(run: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(run);
    }

    fn call(seconds: f64) -> SlowCall {
        let (operation, decisions) = (String::new(), Vec::new());
        SlowCall { at: 0, name: "", operation, seconds, end: "", error: None, trace_id: None, decisions }
    }

    #[test]
    fn loom_a_slow_call_that_finds_somebody_reading_is_kept_beside() {
        model(|| {
            let log = Arc::new(SlowLog::default());
            log.push(call(1.0));
            let other = log.clone();
            let pushes = thread::spawn(move || other.push(call(2.0)));
            let seen = log.latest(9).len();
            pushes.join().unwrap();
            // What lies beside is taken in by the next one, whoever that is.
            let counted = || (log.lists.lock().unwrap().latest.len(), log.beside.lock().unwrap().len());
            let (kept, beside) = counted();
            assert!((seen..=2).contains(&(kept + beside)));
            log.push(call(3.0));
            assert_eq!(counted(), (kept + beside + 1, 0));
            assert_eq!(log.total(), 3);
        });
    }

    #[test]
    fn loom_of_slow_calls_at_the_same_time_none_is_kept_twice_and_one_is_kept() {
        let lay_beside = std::sync::Arc::new(std::sync::Mutex::new(false));
        let once = lay_beside.clone();
        model(move || {
            let log = Arc::new(SlowLog::default());
            let other = log.clone();
            let pushes = thread::spawn(move || other.push(call(2.0)));
            log.push(call(1.0));
            pushes.join().unwrap();
            *once.lock().unwrap() |= !log.beside.lock().unwrap().is_empty();
            let mut kept: Vec<_> = log.latest(9).iter().map(|call| call.seconds).collect();
            kept.sort_by(f64::total_cmp);
            assert!([&[1.0][..], &[2.0], &[1.0, 2.0]].contains(&&*kept), "{kept:?}");
            assert_eq!(log.total(), 2);
        });
        assert!(*lay_beside.lock().unwrap(), "in no order it is kept beside");
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::thread;

    use super::*;

    fn call(seconds: f64) -> SlowCall {
        SlowCall {
            at: 0,
            name: "orders",
            operation: format!("call of {seconds} s"),
            seconds,
            end: "success",
            error: None,
            trace_id: None,
            decisions: Vec::new(),
        }
    }

    fn seconds(calls: &[SlowCall]) -> Vec<f64> {
        calls.iter().map(|call| call.seconds).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_drives_out_neither_the_slowest_nor_the_latest() {
        let log = SlowLog::default();
        log.push(call(60_000.0));
        for n in 0..10_000_u32 {
            tokio::time::advance(Duration::from_millis(1)).await;
            log.push(call(f64::from(n % 1000)));
        }
        assert_eq!(seconds(&log.slowest(3)), [60_000.0, 999.0, 999.0]);
        assert_eq!(seconds(&log.latest(3)), [999.0, 998.0, 997.0]);
        assert_eq!((log.slowest(usize::MAX).len(), log.latest(usize::MAX).len()), (128, 128));
        assert_eq!(log.total(), 10_001);
        assert!(log.slowest(0).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn last_weeks_slowest_does_not_hide_todays() {
        let log = SlowLog::default();
        (0..200).for_each(|n| log.push(call(1000.0 + f64::from(n))));
        tokio::time::advance(SlowLog::AGE - Duration::from_millis(1)).await;
        log.push(call(1.0));
        assert_eq!(seconds(&log.slowest(1)), [1199.0], "it is within the hour");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(log.slowest(9).is_empty(), "what was not slow enough then is not remembered");
        log.push(call(2.0));
        log.push(call(3.0));
        assert_eq!(seconds(&log.slowest(9)), [3.0, 2.0]);
        assert_eq!(seconds(&log.latest(4)), [3.0, 2.0, 1.0, 1199.0], "the latest have no age");
    }

    #[tokio::test(start_paused = true)]
    async fn texts_are_bounded_wherever_their_characters_end() {
        let log = SlowLog::default();
        let mut long = call(1.0);
        for before in 0..4 {
            let text = "x".repeat(before) + &"\u{1f980}".repeat(100_000);
            let why = SlowDecision {
                after_seconds: 0.0,
                layer: "retry",
                name: "orders",
                what: "retried",
                why: text.clone(),
            };
            long.operation.clone_from(&text);
            long.error = Some(text.clone());
            long.trace_id = Some(text);
            long.decisions = vec![why; 1000];
            log.push(long.clone());
            let kept = log.latest(1).remove(0);
            assert!(kept.operation.len() <= 200 && kept.operation.len() > 190);
            assert!(kept.operation.ends_with("\u{1f980}…"), "{}", kept.operation);
            assert!(kept.error.unwrap().len() <= 200 && kept.trace_id.unwrap().len() <= 200);
            assert_eq!(kept.decisions.len(), 32);
            assert!(kept.decisions.iter().all(|decision| decision.why.len() <= 200));
        }
        let mut fits = call(1.0);
        fits.operation = "x".repeat(200);
        log.push(fits.clone());
        assert_eq!(log.latest(1), [fits]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_finds_the_lists_in_use_goes_on_and_is_found_later() {
        let log = SlowLog::default();
        let lists = log.lists.lock().unwrap();
        // On this thread: waiting for the lists would never end.
        (0..20).for_each(|n| log.push(call(f64::from(n))));
        drop(lists);
        assert_eq!(log.latest(usize::MAX).len(), SlowLog::BESIDE);
        assert_eq!(log.total(), 20);

        let beside = log.beside.lock().unwrap();
        log.push(call(99.0));
        drop(beside);
        assert_eq!(seconds(&log.slowest(1)), [99.0]);
    }

    #[test]
    fn calls_of_many_threads_are_kept_while_it_is_read() {
        let log = SlowLog::default();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..2000).for_each(|n| log.push(call(f64::from(n)))));
            }
            for _ in 0..200 {
                let slowest = log.slowest(usize::MAX);
                assert!(slowest.len() <= 128 && slowest.is_sorted_by(|a, b| a.seconds >= b.seconds));
                assert!(log.latest(usize::MAX).len() <= 128);
            }
        });
        assert_eq!(log.total(), 16_000);
        assert_eq!(log.slowest(usize::MAX).len(), 128);
        log.push(call(1e6));
        assert_eq!((seconds(&log.slowest(1)), seconds(&log.latest(1))), (vec![1e6], vec![1e6]));
    }
}
