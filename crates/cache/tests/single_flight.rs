//! One load a key, whatever becomes of the one who makes it.

mod support;

use std::{io, sync::Arc, time::Duration};

use buttress_cache::Cache;
use buttress_core::{BoxError, Deadline, Origin, Reason, Rejectable, Rejected};
use buttress_testkit::probe::Backend;
use tokio::time::{Instant, advance, sleep, timeout};
use tower::{Layer, ServiceExt};

use support::{MS, Polls, cache, key};

#[tokio::test(start_paused = true)]
async fn regression_21_waiters_are_woken_and_not_polled() {
    let cache = cache("regression_21");
    let backend = Backend::new();
    let service = cache.layer(key).layer(Slow(backend.service::<BoxError>(), 20 * MS).boxed());
    let start = Instant::now();
    let waiters: Vec<_> = (0..64).map(|_| tokio::spawn(Polls::new(service.clone().oneshot(7)))).collect();
    for waiter in waiters {
        let (value, polls) = waiter.await.unwrap();
        assert_eq!(value.unwrap(), 7);
        assert!(polls <= 3, "{polls}");
    }
    assert_eq!(backend.calls(), 1);
    assert_eq!(start.elapsed(), 20 * MS);
    assert_eq!(cache.stats().coalesced, 63);
}

/// In real time: virtual time has no processor to spare.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn regression_21_waiting_takes_no_time_of_the_processor() {
    let cache = cache("regression_21_processor");
    let backend = Backend::new();
    let service = cache.layer(key).layer(Slow(backend.service::<BoxError>(), 20 * MS).boxed());
    // What else the machine does only adds to it.
    let mut least = Duration::MAX;
    for round in 0..5 {
        let before = on_the_processor();
        let waiters: Vec<_> = (0..64).map(|_| tokio::spawn(service.clone().oneshot(round))).collect();
        for waiter in waiters {
            assert_eq!(waiter.await.unwrap().unwrap(), round);
        }
        least = least.min(on_the_processor() - before);
        assert_eq!(backend.calls(), round as usize + 1);
    }
    eprintln!("64 callers, one load of 20 ms: {least:?} on the processor");
    assert!(least < MS, "{least:?}");
}

/// For how long this thread has run.
#[cfg(target_os = "linux")]
fn on_the_processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

#[tokio::test(start_paused = true)]
async fn regression_22_a_leader_that_goes_away_hands_over_and_a_panic_poisons_nothing() {
    let cache: Cache<u32, u32> = cache("regression_22");
    let leader = tokio::spawn({
        let cache = cache.clone();
        async move {
            cache.get_or_load(1, async || -> Result<u32, BoxError> { std::future::pending().await }).await
        }
    });
    sleep(MS).await;
    let follower = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get_or_load(1, async || Ok::<_, BoxError>(2)).await }
    });
    sleep(MS).await;
    assert!(!follower.is_finished());
    leader.abort();
    assert_eq!(follower.await.unwrap().unwrap(), 2);

    // At once, and while it waits.
    for wait in [Duration::ZERO, MS] {
        let panics = tokio::spawn({
            let cache = cache.clone();
            async move {
                let load = async || -> Result<u32, BoxError> {
                    if !wait.is_zero() {
                        sleep(wait).await;
                    }
                    panic!("it does")
                };
                cache.get_or_load(3, load).await
            }
        });
        tokio::task::yield_now().await;
        let next = cache.get_or_load(3, async || Ok::<_, BoxError>(4)).await;
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(next.unwrap(), 4);
        cache.invalidate(&3).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_load_fails_those_who_waited_for_it_and_nobody_after() {
    let cache: Cache<u32, u32> = cache("a_failed_load");
    let load = |result: Result<u32, io::ErrorKind>| {
        let cache = cache.clone();
        async move {
            let load = async || {
                sleep(MS).await;
                result.map_err(io::Error::from)
            };
            cache.get_or_load(1, load).await
        }
    };
    let (leader, follower) = tokio::join!(load(Err(io::ErrorKind::ConnectionReset)), load(Ok(1)));
    assert_eq!(leader.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let rejected = *follower.unwrap_err().rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::LoadFailed, true));
    assert_eq!(load(Ok(2)).await.unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_the_load_meets_is_told_to_all() {
    let cache: Cache<u32, u32> = cache("a_refusal");
    let refused =
        Origin::new("circuit-breaker", "inside").reject(Reason::CircuitOpen).with_retry_after(9 * MS);
    let load = || {
        let cache = cache.clone();
        async move {
            let load = async || {
                sleep(MS).await;
                Err::<u32, Rejected>(refused)
            };
            cache.get_or_load(1, load).await
        }
    };
    let (leader, follower) = tokio::join!(load(), load());
    assert_eq!((leader.unwrap_err(), follower.unwrap_err()), (refused, refused));
}

#[tokio::test(start_paused = true)]
async fn each_waits_until_his_own_deadline() {
    let cache: Cache<u32, u32> = cache("each_waits");
    let load = |within: Duration| {
        let cache = cache.clone();
        let load = async move {
            let load = async || {
                sleep(100 * MS).await;
                if Deadline::has_expired() {
                    let refused = Origin::new("timeout", "inside").reject(Reason::DeadlineExceeded);
                    return Err(refused.after_sending());
                }
                Ok::<_, Rejected>(1)
            };
            cache.get_or_load(1, load).await
        };
        tokio::spawn(Deadline::after(within).scope(load))
    };
    let leader = load(50 * MS);
    sleep(MS).await;
    let (short, long) = (load(20 * MS), load(500 * MS));
    let start = Instant::now();
    let refused = short.await.unwrap().unwrap_err();
    assert_eq!(
        (refused.reason(), refused.sent(), refused.layer()),
        (Reason::DeadlineExceeded, false, "cache")
    );
    assert_eq!(start.elapsed(), 20 * MS);
    // The leader's deadline is his own: the next one loads for himself.
    assert_eq!(leader.await.unwrap().unwrap_err().reason(), Reason::DeadlineExceeded);
    assert_eq!(long.await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_an_invalidation_does_not_get_what_was_read_before() {
    let cache: Cache<u32, &str> = cache("who_comes_after");
    let old = tokio::spawn({
        let cache = cache.clone();
        async move {
            let load = async || {
                sleep(10 * MS).await;
                Ok::<_, BoxError>("old")
            };
            cache.get_or_load(1, load).await
        }
    });
    sleep(MS).await;
    cache.invalidate(&1).await.unwrap();
    let new = cache.get_or_load(1, async || Ok::<_, BoxError>("new")).await.unwrap();
    assert_eq!((new, old.await.unwrap().unwrap()), ("new", "old"));
    assert_eq!(cache.get(&1), Some("new"));

    let old = tokio::spawn({
        let cache = cache.clone();
        async move {
            let load = async || {
                sleep(10 * MS).await;
                Ok::<_, BoxError>("old")
            };
            cache.get_or_load(2, load).await
        }
    });
    sleep(MS).await;
    cache.clear().await.unwrap();
    assert_eq!(old.await.unwrap().unwrap(), "old");
    assert_eq!(cache.get(&2), None);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_come_and_go_and_each_key_is_loaded_once_at_a_time() {
    let cache: Arc<Cache<u32, u32>> = Arc::new(cache("a_thousand"));
    let busy: Arc<[std::sync::atomic::AtomicU32; 8]> = Arc::default();
    let callers: Vec<_> = (0..1_000_u32)
        .map(|n| {
            let (cache, busy) = (cache.clone(), busy.clone());
            tokio::spawn(async move {
                sleep(n / 10 * MS / 4).await;
                let slot = &busy[(n % 8) as usize];
                let load = async || {
                    struct Leaves<'a>(&'a std::sync::atomic::AtomicU32);
                    impl Drop for Leaves<'_> {
                        fn drop(&mut self) {
                            self.0.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
                        }
                    }
                    assert_eq!(slot.fetch_add(1, std::sync::atomic::Ordering::Relaxed), 0);
                    let _leaves = Leaves(slot);
                    sleep(Duration::from_millis(u64::from(n % 7))).await;
                    Ok::<_, BoxError>(n % 8)
                };
                let call = cache.get_or_load(n % 8, load);
                // Some give up.
                if let Ok(value) = timeout(Duration::from_millis(u64::from(n % 5)), call).await {
                    assert_eq!(value.unwrap(), n % 8);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    advance(MS).await;
}

/// Takes its time before each call.
#[derive(Clone)]
struct Slow<S>(S, Duration);

impl<S> Slow<S> {
    fn boxed(self) -> tower::util::BoxCloneSyncService<u32, u32, BoxError>
    where
        S: tower::Service<u32, Response = u32, Error = BoxError> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        let Self(inner, wait) = self;
        tower::util::BoxCloneSyncService::new(tower::service_fn(move |request| {
            let inner = inner.clone();
            async move {
                sleep(wait).await;
                inner.oneshot(request).await
            }
        }))
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_a_tag_was_invalidated_does_not_get_what_was_read_before() {
    for ttl in [Duration::from_secs(60), Duration::ZERO] {
        let cache: Cache<u32, u32> =
            Cache::builder("after a tag").ttl(ttl).tags(|_, _| vec!["t".to_owned()]).build();
        let load = |value: u32| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let load = async || {
                    sleep(100 * MS).await;
                    Ok::<_, io::Error>(value)
                };
                cache.get_or_load(1, load).await.unwrap()
            })
        };
        let old = load(0);
        sleep(10 * MS).await;
        let early = load(1);
        sleep(10 * MS).await;
        cache.invalidate_tag("another").await.unwrap();
        cache.invalidate_tag("t").await.unwrap();
        let late = [load(2), load(3), load(4)];
        assert_eq!((old.await.unwrap(), early.await.unwrap()), (0, 0), "they asked before it");
        let mut loaded = Vec::new();
        for late in late {
            loaded.push(late.await.unwrap());
        }
        assert!(loaded.iter().all(|value| *value == loaded[0] && *value >= 2), "{loaded:?}");
        assert_eq!(cache.stats().loads, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_the_caller_s_own_is_everybody_s_own() {
    let cache = cache("own errors");
    let not_found = tower::service_fn(async |key: u32| -> Result<u32, io::Error> {
        sleep(10 * MS).await;
        Err(io::Error::new(io::ErrorKind::NotFound, key.to_string()))
    });
    let judge = |result: &Result<u32, io::Error>| match result {
        Ok(_) => buttress_core::Outcome::Success,
        Err(_) => buttress_core::Outcome::Ignored,
    };
    let service = cache.layer(key).classify(judge).layer(not_found);
    let calls = (0..8).map(|_| tokio::spawn(service.clone().oneshot(7)));
    for call in calls.collect::<Vec<_>>() {
        assert_eq!(call.await.unwrap().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
    assert_eq!(cache.stats().loads, 8);
}
