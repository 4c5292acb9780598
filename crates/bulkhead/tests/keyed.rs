//! A limit for each key: bounded, forgotten when idle, and never exceeded.
#![cfg(feature = "keyed")]

use std::{
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use buttress_bulkhead::{BulkheadLayer, InvalidLimit, KeyedLayer, Limit, Queue};
use buttress_core::{Metric, Observe, Reason, Rejectable, Value};
use buttress_testkit::probe::{self, Backend, BoxError};
use tokio::{
    task::yield_now,
    time::{advance, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt};

const SECOND: Duration = Duration::from_secs(1);

type Tenant = u32;

/// The key of a request is its last digit.
fn layer(limit: u32) -> KeyedLayer<Tenant, fn(&u32) -> Tenant> {
    BulkheadLayer::builder("tenants", Limit::fixed(limit).unwrap()).keyed(|request| request % 10)
}

#[tokio::test(start_paused = true)]
async fn it_owes_what_every_layer_owes() {
    probe::calls_only_ready(layer(1)).await;
    probe::releases_readiness(layer(1)).await;
    probe::survives_panic(layer(1)).await;
    let dropped = layer(1);
    let limiters = dropped.limiters();
    let none_left = |_: &Backend| {
        assert!(limiters.all().iter().all(|(_, limiter)| limiter.snapshot().in_flight == 0));
    };
    probe::cancel_everywhere(dropped, |_| {}, none_left).await;
    let queue = Queue::try_new(1, SECOND).unwrap();
    let one = Limit::fixed(1).unwrap();
    let waiting = || BulkheadLayer::builder("tenants", one).queue(queue).keyed(|request: &u32| request % 10);
    probe::calls_only_ready(waiting()).await;
    probe::clones_share(waiting, async |mut first, mut second, backend| {
        backend.hold();
        let call = tokio::spawn(first.ready().await.unwrap().call(7));
        yield_now().await;
        let other = tokio::spawn(second.ready().await.unwrap().call(8));
        let same = tokio::spawn(second.ready().await.unwrap().call(17));
        sleep(SECOND / 2).await;
        assert_eq!(backend.in_flight(), 2, "another key has a limit of its own");
        backend.release();
        assert_eq!(call.await.unwrap().unwrap(), 7);
        assert_eq!(other.await.unwrap().unwrap(), 8);
        assert_eq!(same.await.unwrap().unwrap(), 17);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_random_keys_moves_nothing_that_is_in_use() {
    let layer = BulkheadLayer::builder("flood", Limit::fixed(2).unwrap())
        .keyed(|request: &u64| *request)
        .capacity(1_000);
    let limiters = layer.limiters();
    let mut word = 1_u64;
    let mut flood = || {
        for _ in 0..500_000 {
            // xorshift: a million keys, none twice.
            word ^= word << 13;
            word ^= word >> 7;
            word ^= word << 17;
            drop(limiters.limiter(&word).unwrap().try_acquire().unwrap());
        }
    };
    // It comes when the map is full already, and would be the next to go.
    flood();
    let hot = limiters.limiter(&u64::MAX).unwrap();
    let held = [hot.try_acquire().unwrap(), hot.try_acquire().unwrap()];
    drop(hot);
    flood();
    assert!(limiters.len() <= 1_000, "{}", limiters.len());
    assert!(limiters.limiter(&u64::MAX).unwrap().try_acquire().is_err(), "two calls are in flight");
    drop(held);
    assert!(limiters.limiter(&u64::MAX).unwrap().try_acquire().is_ok());
}

#[tokio::test(start_paused = true)]
async fn where_all_are_in_use_new_keys_are_refused_and_old_ones_are_not() {
    let layer = layer(2).capacity(3);
    let backend = Backend::new();
    backend.hold();
    let mut service = layer.layer(backend.service::<BoxError>());
    let mut calls = Vec::new();
    for tenant in 0..3 {
        calls.push(tokio::spawn(service.ready().await.unwrap().call(tenant)));
    }
    yield_now().await;
    for _ in 0..100 {
        let call = service.ready().await.unwrap().call(3);
        let refused = timeout(SECOND, call).await.expect("it does not reach the backend").unwrap_err();
        assert_eq!(refused.rejected().unwrap().reason(), Reason::Overloaded);
        assert_eq!(layer.limiters().len(), 3);
    }
    calls.push(tokio::spawn(service.ready().await.unwrap().call(0)));
    yield_now().await;
    assert_eq!(backend.in_flight(), 4);
    backend.release();
    for call in calls {
        assert!(call.await.unwrap().is_ok());
    }
    assert!(service.ready().await.unwrap().call(3).await.is_ok(), "one is idle now");
    assert!(layer.limiters().len() <= 3);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_asks_for_is_forgotten() {
    let layer = layer(1).idle(60 * SECOND);
    let limiters = layer.limiters();
    let held = limiters.limiter(&1).unwrap().try_acquire().unwrap();
    for tenant in 2..5 {
        limiters.limiter(&tenant).unwrap();
    }
    advance(61 * SECOND).await;
    limiters.limiter(&5).unwrap();
    assert_eq!(limiters.len(), 5, "used since the last time");
    advance(61 * SECOND).await;
    limiters.limiter(&5).unwrap();
    limiters.limiter(&6).unwrap();
    let mut keys: Vec<_> = limiters.all().into_iter().map(|(key, _)| key).collect();
    keys.sort_unstable();
    assert_eq!(keys, [1, 5, 6], "one is in use, one was asked for, one is new");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn all_limits_can_be_set_for_keys_that_are_and_keys_that_come() {
    let limiters = layer(1).limiters();
    let old = limiters.limiter(&1).unwrap();
    assert_eq!(limiters.set_limit(0), Err(InvalidLimit::Zero));
    assert_eq!(old.limit(), 1);
    limiters.set_limit(3).unwrap();
    assert_eq!((old.limit(), limiters.limiter(&2).unwrap().limit()), (3, 3));
    let _held = old.try_acquire().unwrap();
    let mut seen = Vec::new();
    limiters.observe(&mut |metric| seen.push(metric));
    let expected = [("keys", 2.0), ("in_flight", 1.0), ("waiting", 0.0)];
    assert_eq!(seen[..3], expected.map(|(name, value)| Metric::new(name, Value::Gauge(value))));
}

#[tokio::test(start_paused = true)]
async fn a_higher_limit_of_all_lets_in_those_who_wait() {
    let queue = Queue::try_new(1, SECOND).unwrap();
    let limiters = BulkheadLayer::builder("tenants", Limit::fixed(1).unwrap())
        .queue(queue)
        .keyed(|n: &u32| *n)
        .limiters();
    let one = limiters.limiter(&1).unwrap();
    let _held = one.try_acquire().unwrap();
    let waiter = tokio::spawn(async move { one.acquire().await.map(drop) });
    yield_now().await;
    limiters.set_limit(2).unwrap();
    assert_eq!(waiter.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn there_is_room_for_one_key_at_least() {
    let limiters = layer(1).capacity(0).limiters();
    assert_eq!(limiters.capacity(), 1);
    let _held = limiters.limiter(&1).unwrap().try_acquire().unwrap();
    assert_eq!(limiters.limiter(&2).unwrap_err().reason(), Reason::Overloaded);
}

/// More keys than there is room for, from several threads: whoever is forgotten and made again must not let more in.
#[test]
fn no_limit_is_exceeded_however_keys_come_and_go() {
    const KEYS: usize = 12;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let _clock = runtime.enter();
    let limiters = layer(2).capacity(4).limiters();
    let inside: [AtomicU32; KEYS] = Default::default();
    let (start, handle) = (Barrier::new(4), runtime.handle());
    let admitted: u32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..4_usize)
            .map(|seed| {
                let (limiters, inside, start) = (&limiters, &inside, &start);
                scope.spawn(move || {
                    let _clock = handle.enter();
                    start.wait();
                    let mut admitted = 0;
                    for round in 0..30_000_usize {
                        let key = (round * (seed + 1) + round / 7) % KEYS;
                        let Ok(limiter) = limiters.limiter(&u32::try_from(key).unwrap()) else { continue };
                        let permit = limiter.try_acquire();
                        // From here on only the permit keeps it.
                        drop(limiter);
                        if permit.is_ok() {
                            admitted += 1;
                            assert!(inside[key].fetch_add(1, SeqCst) < 2);
                            if round % 16 == 0 {
                                thread::yield_now();
                            }
                            inside[key].fetch_sub(1, SeqCst);
                        }
                        assert!(limiters.len() <= 4 + 4, "one too many for each thread at most");
                    }
                    admitted
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert!(admitted > 10_000, "{admitted}");
    assert!(limiters.all().iter().all(|(_, limiter)| limiter.snapshot().in_flight == 0));
}
