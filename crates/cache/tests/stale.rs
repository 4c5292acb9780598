//! Values past their time.

mod support;

use std::{
    future::ready,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use buttress_cache::Cache;
use buttress_core::{BoxError, Origin, Outcome, Reason, Rejectable};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

use support::{MS, cache, key};

/// Answers with the number of the call, after a wait; says how many run at once.
#[derive(Clone, Default)]
struct Loads {
    begun: Arc<AtomicU32>,
    running: Arc<AtomicU32>,
    most: Arc<AtomicU32>,
    fails: Arc<Mutex<Option<Reason>>>,
}

impl Loads {
    fn service(
        &self,
        wait: Duration,
    ) -> impl Service<u32, Response = u32, Error = BoxError, Future: Send> + Clone + Send + 'static {
        let this = self.clone();
        service_fn(move |_: u32| {
            let this = this.clone();
            async move {
                let number = this.begun.fetch_add(1, Relaxed) + 1;
                this.most.fetch_max(this.running.fetch_add(1, Relaxed) + 1, Relaxed);
                sleep(wait).await;
                this.running.fetch_sub(1, Relaxed);
                match *this.fails.lock().unwrap() {
                    Some(reason) => Err(Origin::new("inside", "stale").reject(reason).into()),
                    None => Ok(number),
                }
            }
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_value_is_served_until_its_time_ends() {
    let cache: Cache<u32, u32> = cache("until_its_time_ends");
    let loads = Loads::default();
    let service = cache.layer(key).layer(loads.service(Duration::ZERO));
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
    advance(Duration::from_millis(59_999)).await;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
    advance(MS).await;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 2);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.loads), (1, 2, 2));
}

/// 10,000 requests a second on a key that ends every 100 ms and takes 50 ms to load.
#[tokio::test(start_paused = true)]
async fn nobody_waits_while_a_value_is_loaded_anew_and_one_load_is_made_at_a_time() {
    let cache: Cache<u32, u32> = Cache::builder("nobody_waits")
        .ttl(100 * MS)
        .jitter(0.0)
        .stale_while_revalidate(Duration::from_secs(1))
        .build();
    let loads = Loads::default();
    let service = cache.layer(key).layer(loads.service(50 * MS));
    service.clone().oneshot(1).await.unwrap();
    let mut waited = 0;
    for _ in 0..30_000 {
        let mut call = Box::pin(service.clone().oneshot(1));
        if futures_poll(&mut call).is_none() {
            waited += 1;
        }
        sleep(Duration::from_micros(100)).await;
    }
    assert_eq!((waited, loads.most.load(Relaxed)), (0, 1));
    // Timers tick in milliseconds: 30,000 sleeps of 100 us are 30 s. A round is 150 ms.
    let rounds = cache.stats().refreshes;
    assert!((190..=210).contains(&rounds), "{rounds}");
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_keeps_the_old_value_and_is_not_repeated_at_once() {
    let cache: Cache<u32, u32> = Cache::builder("a_refresh_that_fails")
        .ttl(100 * MS)
        .jitter(0.0)
        .stale_while_revalidate(Duration::from_secs(10))
        .build();
    let loads = Loads::default();
    let service = cache.layer(key).layer(loads.service(MS));
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
    *loads.fails.lock().unwrap() = Some(Reason::TimedOut);
    for _ in 0..350 {
        sleep(10 * MS).await;
        assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
    }
    // At 100 ms, and then every second.
    assert_eq!(loads.begun.load(Relaxed), 1 + 4);
    *loads.fails.lock().unwrap() = None;
    sleep(Duration::from_secs(1)).await;
    service.clone().oneshot(1).await.unwrap();
    sleep(2 * MS).await;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_hangs_ends_with_the_time_of_the_old_value_and_a_panic_in_one_is_a_failure() {
    let cache: Cache<u32, u32> = Cache::builder("a_refresh_that_hangs")
        .ttl(100 * MS)
        .jitter(0.0)
        .stale_while_revalidate(Duration::from_secs(1))
        .build();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let service = cache.layer(key).layer(service_fn(move |_: u32| {
        let number = counted.fetch_add(1, Relaxed) + 1;
        async move {
            match number {
                2 => std::future::pending().await,
                4 => panic!("it does"),
                _ => Ok::<_, BoxError>(number),
            }
        }
    }));
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
    advance(100 * MS).await;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
    sleep(MS).await;
    // Beyond its window the callers wait for the one that hangs, as long as that one has got, and load for themselves then.
    advance(Duration::from_millis(999)).await;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 3);
    advance(100 * MS).await;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 3);
    sleep(MS).await;
    assert_eq!((service.clone().oneshot(1).await.unwrap(), calls.load(Relaxed)), (3, 4));
    advance(Duration::from_millis(500)).await;
    assert_eq!((service.clone().oneshot(1).await.unwrap(), calls.load(Relaxed)), (3, 4), "it rests");
}

#[tokio::test(start_paused = true)]
async fn in_the_foreground_one_caller_waits_and_the_others_get_the_old_value() {
    let cache: Cache<u32, u32> = Cache::builder("in_the_foreground")
        .ttl(100 * MS)
        .jitter(0.0)
        .stale_while_revalidate(Duration::from_secs(1))
        .build();
    let loads = Loads::default();
    let service = cache.layer(key).in_foreground().layer(loads.service(10 * MS));
    service.clone().oneshot(1).await.unwrap();
    advance(100 * MS).await;
    let (first, second) = tokio::join!(service.clone().oneshot(1), service.clone().oneshot(1));
    assert_eq!((first.unwrap(), second.unwrap()), (2, 1));
    // The same for functions.
    advance(100 * MS).await;
    let load = || {
        cache.get_or_load(1, async || {
            sleep(MS).await;
            Ok::<_, BoxError>(3)
        })
    };
    let (first, second) = tokio::join!(load(), load());
    assert_eq!((first.unwrap(), second.unwrap()), (3, 2));
    // A load that fails leaves the old value also to the one who made it.
    advance(100 * MS).await;
    let fails = cache.get_or_load(1, async || Err::<u32, BoxError>("no".into()));
    assert_eq!(fails.await.unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_old_value_is_served_when_the_load_fails_and_also_when_a_breaker_refuses() {
    let cache: Cache<u32, u32> =
        Cache::builder("when_the_load_fails").jitter(0.0).stale_if_error(Duration::from_secs(100)).build();
    let loads = Loads::default();
    let service = cache.layer(key).layer(loads.service(MS));
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 1);
    advance(Duration::from_secs(60)).await;
    for reason in [Reason::CircuitOpen, Reason::TimedOut, Reason::Overloaded, Reason::DeadlineExceeded] {
        *loads.fails.lock().unwrap() = Some(reason);
        let (first, second) = tokio::join!(service.clone().oneshot(1), service.clone().oneshot(1));
        assert_eq!((first.unwrap(), second.unwrap()), (1, 1));
    }
    assert_eq!(loads.begun.load(Relaxed), 5);
    advance(Duration::from_secs(100)).await;
    let error = service.clone().oneshot(1).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_a_failure_is_not_kept_and_one_that_is_the_callers_mistake_is_passed_on() {
    let cache: Cache<u32, u16> =
        Cache::builder("an_answer").jitter(0.0).ttl(MS).stale_if_error(Duration::from_secs(9)).build();
    let by_status = |result: &Result<u16, BoxError>| match result {
        Ok(500..) | Err(_) => Outcome::Failure,
        Ok(400..) => Outcome::Ignored,
        Ok(_) => Outcome::Success,
    };
    let answer = Arc::new(Mutex::new(500_u16));
    let answers = answer.clone();
    let service = cache
        .layer(key)
        .classify(by_status)
        .layer(service_fn(move |_: u32| ready(Ok::<_, BoxError>(*answers.lock().unwrap()))));
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 500);
    assert_eq!(cache.get(&1), None);
    *answer.lock().unwrap() = 200;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 200);
    advance(MS).await;
    *answer.lock().unwrap() = 503;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 200);
    *answer.lock().unwrap() = 404;
    assert_eq!(service.clone().oneshot(1).await.unwrap(), 404);
}

#[tokio::test(start_paused = true)]
async fn each_value_has_the_life_that_it_is_given() {
    let cache: Cache<u32, Option<u32>> = Cache::builder("each_value")
        .jitter(0.0)
        .expiry(|key, value: &Option<u32>| match value {
            Some(_) => Some(Duration::from_secs(60)),
            None if *key == 0 => None,
            None => Some(Duration::from_secs(5)),
        })
        .build();
    let loads = AtomicU32::new(0);
    let load = |key, value| {
        let loads = &loads;
        cache.get_or_load(key, move || {
            loads.fetch_add(1, Relaxed);
            ready(Ok::<_, BoxError>(value))
        })
    };
    for _ in 0..2 {
        load(0, None).await.unwrap();
        load(1, None).await.unwrap();
        load(2, Some(2)).await.unwrap();
    }
    assert_eq!(loads.load(Relaxed), 4, "the first is not kept");
    advance(Duration::from_secs(5)).await;
    load(1, None).await.unwrap();
    load(2, Some(2)).await.unwrap();
    assert_eq!(loads.load(Relaxed), 5);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_not_served_any_more() {
    let cache: Cache<u32, u32> =
        Cache::builder("nobody_asks").ttl(Duration::MAX).time_to_idle(Duration::from_secs(10)).build();
    cache.insert(1, 1).await.unwrap();
    for _ in 0..20 {
        advance(Duration::from_secs(9)).await;
        assert_eq!(cache.get(&1), Some(1));
    }
    advance(Duration::from_secs(10)).await;
    assert_eq!(cache.get(&1), None);
}

#[tokio::test(start_paused = true)]
async fn a_life_is_shortened_by_chance_and_never_made_longer() {
    let cache: Cache<u32, u32> =
        Cache::builder("by_chance").ttl(Duration::from_secs(100)).jitter(0.5).build();
    for key in 0..1_000 {
        cache.insert(key, key).await.unwrap();
    }
    let start = Instant::now();
    let alive = || (0..1_000).filter(|key| cache.get(key).is_some()).count();
    advance(Duration::from_secs(50)).await;
    assert_eq!(alive(), 1_000);
    advance(Duration::from_secs(25)).await;
    assert!((400..600).contains(&alive()), "{}", alive());
    advance(Duration::from_secs(100) - start.elapsed()).await;
    assert_eq!(alive(), 0);
}
