//! A store behind the memory, of a scripted kind: real ones test themselves.

mod support;

use std::{
    collections::HashMap,
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_cache::{Cache, CacheBuilder, Entry, Invalidations, Store, Stored, Want};
use buttress_core::BoxError;
use tokio::time::{advance, sleep};

use support::MS;

/// What two caches share. Each question takes a millisecond.
#[derive(Default)]
struct State {
    values: Mutex<HashMap<u32, Stored<u32>>>,
    heard: Mutex<Vec<(u32, Invalidations<u32>)>>,
    processes: AtomicU32,
    asked: AtomicU32,
    filled: AtomicU32,
    away: Mutex<bool>,
}

/// As a process has it, of that number: its own writes are not told to it.
#[derive(Clone, Default)]
struct Shared(Arc<State>, u32);

impl Shared {
    fn another(&self) -> Self {
        Self(self.0.clone(), self.0.processes.fetch_add(1, Relaxed))
    }

    fn tell(&self, tell: impl Fn(&Invalidations<u32>)) {
        let heard = self.0.heard.lock().unwrap();
        heard.iter().filter(|(process, _)| *process != self.1).for_each(|(_, heard)| tell(heard));
    }

    async fn trip(&self) -> Result<(), BoxError> {
        sleep(MS).await;
        if *self.0.away.lock().unwrap() { Err("away".into()) } else { Ok(()) }
    }
}

impl Store<u32, u32> for Shared {
    type Lease = u32;

    async fn enter(&self, key: &u32, want: Want) -> Result<Entry<u32, u32>, BoxError> {
        self.0.asked.fetch_add(1, Relaxed);
        self.trip().await?;
        Ok(match self.0.values.lock().unwrap().get(key) {
            Some(stored) if want == Want::Any || !stored.fresh_for.is_zero() => Entry::Found(stored.clone()),
            _ => Entry::Vacant(*key),
        })
    }

    async fn fill(&self, lease: u32, key: &u32, stored: &Stored<u32>) -> Result<(), BoxError> {
        assert_eq!(lease, *key);
        self.trip().await?;
        self.0.filled.fetch_add(1, Relaxed);
        self.0.values.lock().unwrap().insert(*key, stored.clone());
        Ok(())
    }

    async fn put(&self, key: &u32, stored: &Stored<u32>) -> Result<(), BoxError> {
        self.trip().await?;
        self.0.values.lock().unwrap().insert(*key, stored.clone());
        self.tell(|heard| heard.key(key));
        Ok(())
    }

    async fn remove(&self, key: &u32) -> Result<(), BoxError> {
        self.trip().await?;
        self.0.values.lock().unwrap().remove(key);
        self.tell(|heard| heard.key(key));
        Ok(())
    }

    async fn remove_tag(&self, tag: &str) -> Result<(), BoxError> {
        self.trip().await?;
        self.0.values.lock().unwrap().retain(|_, stored| !stored.tags.iter().any(|other| other == tag));
        self.tell(|heard| heard.tag(tag));
        Ok(())
    }

    async fn clear(&self) -> Result<(), BoxError> {
        self.trip().await?;
        self.0.values.lock().unwrap().clear();
        self.tell(Invalidations::all);
        Ok(())
    }

    fn attach(&self, invalidations: Invalidations<u32>) {
        self.0.heard.lock().unwrap().push((self.1, invalidations));
    }
}

fn builder(name: &str, store: &Shared) -> CacheBuilder<u32, u32> {
    Cache::builder(name)
        .jitter(0.0)
        .tags(|key: &u32, _| vec![format!("tag {}", key % 2)])
        .store(store.another())
}

async fn load(cache: &Cache<u32, u32>, key: u32, value: u32) -> u32 {
    cache.get_or_load(key, || ready(Ok::<_, BoxError>(value))).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_one_process_loaded_another_finds_and_what_one_writes_another_forgets() {
    let store = Shared::default();
    let (one, other) = (builder("tier one", &store).build(), builder("tier other", &store).build());
    assert_eq!(load(&one, 1, 10).await, 10);
    assert_eq!(load(&other, 1, 99).await, 10);
    assert_eq!((store.0.asked.load(Relaxed), store.0.filled.load(Relaxed)), (2, 1));
    assert_eq!(load(&other, 1, 99).await, 10);
    assert_eq!(store.0.asked.load(Relaxed), 2, "it stands in memory");
    assert_eq!((one.stats().loads, other.stats().loads, other.stats().store_hits), (1, 0, 1));

    one.insert(1, 11).await.unwrap();
    assert_eq!((one.get(&1), other.get(&1)), (Some(11), None));
    assert_eq!(load(&other, 1, 99).await, 11);

    load(&one, 2, 20).await;
    load(&other, 2, 99).await;
    other.invalidate_tag("tag 1").await.unwrap();
    assert_eq!([one.get(&1), one.get(&2), other.get(&1), other.get(&2)], [None, Some(20), None, Some(20)]);
    one.invalidate(&2).await.unwrap();
    assert_eq!(other.get(&2), None);
    load(&one, 3, 30).await;
    load(&other, 3, 30).await;
    one.clear().await.unwrap();
    assert_eq!((one.get(&3), other.get(&3)), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_left_alone_and_the_memory_goes_on() {
    let store = Shared::default();
    let cache = builder("tier away", &store).build();
    *store.0.away.lock().unwrap() = true;
    assert_eq!(load(&cache, 1, 10).await, 10);
    assert_eq!(load(&cache, 2, 20).await, 20);
    assert_eq!((load(&cache, 1, 99).await, load(&cache, 2, 99).await), (10, 20));
    assert_eq!((store.0.asked.load(Relaxed), cache.stats().store_errors), (1, 1));
    assert!(cache.invalidate(&1).await.is_err());
    assert_eq!(cache.get(&1), None, "this process forgot it");
    *store.0.away.lock().unwrap() = false;
    advance(Duration::from_secs(1)).await;
    load(&cache, 3, 30).await;
    assert_eq!((store.0.asked.load(Relaxed), store.0.filled.load(Relaxed)), (2, 1));
}

/// It fails between the question and the answer to it.
#[tokio::test(start_paused = true)]
async fn a_value_that_the_store_did_not_take_is_served_all_the_same() {
    let store = Shared::default();
    let cache = builder("tier fill", &store).build();
    let away = store.clone();
    let load = async || {
        *away.0.away.lock().unwrap() = true;
        Ok::<_, BoxError>(10)
    };
    assert_eq!(cache.get_or_load(1, load).await.unwrap(), 10);
    assert_eq!((cache.get(&1), cache.stats().store_errors), (Some(10), 1));
}

#[tokio::test(start_paused = true)]
async fn an_old_value_of_the_store_is_served_within_what_is_left_of_its_time() {
    let store = Shared::default();
    let old =
        |left: Duration| Stored { value: 10, fresh_for: Duration::ZERO, stale_for: left, tags: Vec::new() };
    let second = Duration::from_secs(1);
    // Of ten seconds in which it may be served while it is loaded anew, four are left.
    store.0.values.lock().unwrap().insert(1, old(4 * second));
    let cache = builder("tier old", &store).stale_while_revalidate(10 * second).build();
    assert_eq!(load(&cache, 1, 99).await, 10);
    advance(Duration::from_millis(3_900)).await;
    let slow = async || {
        sleep(second).await;
        Ok::<_, BoxError>(11)
    };
    let (leader, other) = tokio::join!(cache.get_or_load(1, slow), load(&cache, 1, 98));
    assert_eq!((leader.unwrap(), other), (11, 10));

    // Good for nothing but an error.
    store.0.values.lock().unwrap().insert(1, old(4 * second));
    let cache = builder("tier old for errors", &store).stale_if_error(10 * second).build();
    let fails = || cache.get_or_load(1, || ready(Err::<u32, BoxError>("no".into())));
    assert_eq!(fails().await.unwrap(), 10);
    advance(4 * second).await;
    store.0.values.lock().unwrap().clear();
    assert!(fails().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_store_is_one_a_key_and_a_dropped_one_hands_over() {
    let store = Shared::default();
    let cache = builder("tier wait", &store).build();
    let calls: Vec<_> = (0..64)
        .map(|n| {
            let cache = cache.clone();
            tokio::spawn(async move { load(&cache, 1, n).await })
        })
        .collect();
    tokio::task::yield_now().await;
    calls[0].abort();
    let mut values = Vec::new();
    for call in calls.into_iter().skip(1) {
        values.push(call.await.unwrap());
    }
    assert_eq!((values.len(), store.0.filled.load(Relaxed)), (63, 1));
    assert!(values.iter().all(|value| *value == values[0]));
    assert_eq!(cache.stats().loads, 1);
}

/// Two write the same key at the same time, and which of the two the store took last is not known.
#[tokio::test(start_paused = true)]
async fn an_insertion_that_another_one_overtakes_is_not_kept() {
    let store = Shared::default();
    let (one, other) = (builder("tier race", &store).build(), builder("tier race other", &store).build());
    let (first, second) = tokio::join!(one.insert(1, 10), one.insert(1, 11));
    first.and(second).unwrap();
    assert_eq!(one.get(&1), None);
    // What another process writes before the insertion has landed is not overwritten by it.
    let (mine, others) = tokio::join!(one.insert(2, 20), other.insert(2, 21));
    mine.and(others).unwrap();
    assert_eq!(one.get(&2), None);
    let (inserted, loaded) = tokio::join!(one.insert(3, 30), load(&one, 3, 31));
    inserted.unwrap();
    assert_eq!((loaded, one.get(&3)), (30, Some(30)), "who asks meanwhile gets it");
}

/// The question to the store has its answer, which the caller has not looked at yet.
#[tokio::test(start_paused = true)]
async fn what_is_invalidated_while_the_store_is_asked_does_not_come_back_for_errors() {
    let store = Shared::default();
    let old = Stored { value: 10, fresh_for: Duration::ZERO, stale_for: 60_000 * MS, tags: Vec::new() };
    store.0.values.lock().unwrap().insert(1, old);
    let cache = builder("tier comes back", &store).stale_if_error(60_000 * MS).build();
    let fails = || cache.get_or_load(1, || ready(Err::<u32, BoxError>("no".into())));
    let mut call = Box::pin(fails());
    assert!(poll_once(&mut call).await.is_pending());
    sleep(2 * MS).await;
    cache.invalidate(&1).await.unwrap();
    let _ = call.await;
    assert!(fails().await.is_err());
    assert_eq!(cache.get(&1), None);
}

#[tokio::test(start_paused = true)]
async fn a_newer_value_that_is_not_kept_ends_the_old_one_of_the_store() {
    let store = Shared::default();
    let old = Stored { value: 10, fresh_for: Duration::ZERO, stale_for: 60_000 * MS, tags: Vec::new() };
    store.0.values.lock().unwrap().insert(1, old);
    let none_of_gone = |_: &u32, value: &u32| (*value != 0).then_some(1_000 * MS);
    let cache = builder("tier gone", &store).stale_if_error(60_000 * MS).expiry(none_of_gone).build();
    for _ in 0..3 {
        assert_eq!(load(&cache, 1, 0).await, 0);
        assert!(cache.get_or_load(1, || ready(Err::<u32, BoxError>("no".into()))).await.is_err());
    }
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx))).await
}
