//! What statements cost, by their normalised texts.

mod figures;
mod histogram;
mod normalise;
mod slow;
mod timed;

use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Duration};

use buttress_core::Origin;

pub(crate) use self::timed::Timed;
use self::{figures::Figures, normalise::normalise, slow::Slow};
pub use self::{figures::StatementStats, slow::SlowQuery};
use crate::{
    Postgres,
    sync::{self, AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering::Relaxed, PoisonError},
};

/// The most texts that have figures of their own.
const PLACES: usize = if cfg!(all(test, buttress_loom)) { 1 } else { 512 };

/// The figures of one instance: of the [`PLACES`] texts that are used most, and of all others together.
///
/// Which ones are used most is told by `SpaceSaving` (Metwally, Agrawal, El Abbadi, "Efficient Computation of Frequent and
/// Top-k Elements in Data Streams", 2005): a new text takes the place that was used least, and counts on from that
/// place's uses. So new texts take turns in the places that nobody else wants, and one that makes more than one in
/// [`PLACES`] of all uses keeps its place, however many other texts there are.
#[derive(Debug)]
pub(crate) struct Statistics {
    home: sync::Arc<Home>,
    places: Mutex<HashMap<Arc<str>, sync::Arc<Entry>>>,
}

/// What the entries share.
#[derive(Debug)]
struct Home {
    origin: Origin,
    other: Figures,
    slow: Slow,
}

/// The figures of one text. A rewritten text carries it, so that a call does not look for it.
#[derive(Debug)]
pub(crate) struct Entry {
    text: Arc<str>,
    figures: Figures,
    /// How often its place had been used before.
    inherited: AtomicU64,
    /// Whether its place was taken by another. What is recorded then goes to the others.
    displaced: AtomicBool,
    home: sync::Arc<Home>,
}

impl Statistics {
    pub(crate) fn new(origin: Origin, slow_query: Duration) -> Self {
        let home = Home { origin, other: Figures::default(), slow: Slow::new(slow_query) };
        Self { home: sync::Arc::new(home), places: Mutex::default() }
    }

    /// The entry of whatever this text is normalised to.
    pub(crate) fn entry(&self, text: &str) -> sync::Arc<Entry> {
        let text = normalise(text);
        let mut places = self.lock();
        if let Some(entry) = places.get(&*text) {
            return sync::Arc::clone(entry);
        }
        // A scan of some hundreds is little beside the round trip that prepares a new text.
        let inherited = if places.len() < PLACES {
            0
        } else {
            places.values().min_by_key(|entry| entry.uses()).cloned().map_or(0, |least| {
                places.remove(&least.text);
                least.displaced.store(true, Relaxed);
                let uses = least.uses();
                least.figures.move_to(&self.home.other);
                uses + 1
            })
        };
        let text: Arc<str> = text.into();
        let entry = sync::Arc::new(Entry {
            text: Arc::clone(&text),
            figures: Figures::default(),
            inherited: AtomicU64::new(inherited),
            displaced: AtomicBool::new(false),
            home: sync::Arc::clone(&self.home),
        });
        places.insert(text, sync::Arc::clone(&entry));
        entry
    }

    pub(crate) fn slow_threshold(&self) -> Option<Duration> {
        self.home.slow.threshold()
    }

    pub(crate) fn slow_count(&self) -> u64 {
        self.home.slow.count()
    }

    /// What was counted goes there.
    fn begin_anew(&self, gone: &Figures) {
        for entry in self.lock().values() {
            // It stays as hard to displace as it was.
            entry.inherited.fetch_add(entry.figures.move_to(gone), Relaxed);
        }
        self.home.other.move_to(gone);
        self.home.slow.clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, sync::Arc<Entry>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn is_displaced(&self) -> bool {
        self.displaced.load(Relaxed)
    }

    /// Where to record.
    fn figures(&self) -> &Figures {
        if self.is_displaced() { &self.home.other } else { &self.figures }
    }

    fn uses(&self) -> u64 {
        self.inherited.load(Relaxed) + self.figures.count()
    }
}

/// What was recorded just while it was displaced. Nobody can record any more, so nothing is lost.
impl Drop for Entry {
    fn drop(&mut self) {
        self.figures.move_to(&self.home.other);
    }
}

impl Postgres {
    /// What the statements cost since the start, or since [`reset_statistics`](Self::reset_statistics): those that took
    /// the most time in total first, at most `limit` of them.
    ///
    /// It takes some tenths of a millisecond, in which calls go on.
    #[must_use]
    pub fn statements(&self, limit: usize) -> Vec<StatementStats> {
        let statistics = &self.shared().statistics;
        let entries: Vec<_> = statistics.lock().values().cloned().collect();
        let mut figures: Vec<_> =
            entries.iter().map(|entry| (&entry.figures, Some(Arc::clone(&entry.text)))).collect();
        figures.push((&statistics.home.other, None));
        figures.retain(|(figures, _)| figures.count() > 0);
        figures.sort_by_cached_key(|(figures, _)| Reverse(figures.total()));
        figures.truncate(limit);
        figures.into_iter().map(|(figures, text)| figures.snapshot(text)).collect()
    }

    /// The statements that were [slow](crate::PostgresConfig::with_slow_query), the slowest first, at most `limit` of
    /// them.
    #[must_use]
    pub fn slow_queries(&self, limit: usize) -> Vec<SlowQuery> {
        self.shared().statistics.home.slow.list(limit)
    }

    /// A statement that takes so long is a slow one, from now on, also where it runs already: see
    /// [`PostgresConfig::with_slow_query`](crate::PostgresConfig::with_slow_query). Those that are kept stay.
    pub fn set_slow_query(&self, threshold: Duration) {
        self.shared().statistics.home.slow.set_threshold(threshold);
    }

    /// Begins [`statements`](Self::statements) and [`slow_queries`](Self::slow_queries) anew:
    /// after an index was made, the worst of yesterday tells nothing. What [`Observe`](buttress_core::Observe) counts
    /// goes on.
    pub fn reset_statistics(&self) {
        self.shared().statistics.begin_anew(&Figures::default());
    }
}

#[cfg(all(test, buttress_loom))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics() -> Statistics {
        Statistics::new(Origin::new("postgres", "statistics"), Duration::MAX)
    }

    fn run(entry: &Entry) {
        entry.figures().record(Duration::from_millis(1), Some(1));
    }

    #[test]
    fn texts_that_differ_in_literals_share_an_entry() {
        let statistics = statistics();
        assert!(sync::Arc::ptr_eq(&statistics.entry("select 1"), &statistics.entry("select  2 -- two")));
        assert!(!sync::Arc::ptr_eq(&statistics.entry("select 1"), &statistics.entry("select a")));
    }

    #[test]
    fn a_flood_displaces_itself_and_nothing_is_lost() {
        let statistics = statistics();
        let hot = statistics.entry("select hot");
        for _ in 0..100 {
            run(&hot);
        }
        for n in 0..10_000 {
            run(&statistics.entry(&format!("select a{n}")));
        }
        assert!(!hot.is_displaced());
        assert_eq!((hot.figures.count(), statistics.lock().len()), (100, PLACES));
        let kept: u64 = statistics.lock().values().map(|entry| entry.figures.count()).sum();
        assert_eq!(kept + statistics.home.other.count(), 10_100);
    }

    #[test]
    fn whoever_gets_hot_in_a_flood_gets_a_place() {
        let statistics = statistics();
        let mut hot = statistics.entry("select hot");
        for n in 0..10_000 {
            run(&statistics.entry(&format!("select a{n}")));
            // One in a hundred is more than one in 512.
            if n % 100 == 0 {
                hot = if hot.is_displaced() { statistics.entry("select hot") } else { hot };
                run(&hot);
            }
        }
        assert!(!hot.is_displaced());
        assert!(hot.figures.count() > 80, "{}", hot.figures.count());
    }

    #[test]
    fn what_a_displaced_one_records_late_goes_to_the_others() {
        let statistics = statistics();
        let late = statistics.entry("select late");
        for n in 0..PLACES * 2 {
            statistics.entry(&format!("select a{n}"));
        }
        assert!(late.is_displaced());
        run(&late);
        assert_eq!(statistics.home.other.count(), 1);
        // Just while it was displaced.
        late.figures.record(Duration::from_millis(1), None);
        assert_eq!(statistics.home.other.count(), 1);
        drop(late);
        assert_eq!(statistics.home.other.count(), 2);
    }
}
