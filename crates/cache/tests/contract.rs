//! The contract of every layer.

mod support;

use std::{
    future::{pending, ready},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_cache::{Cache, CacheLayer, Flights, Joined, Landed};
use buttress_core::{BoxError, Observe};
use buttress_testkit::{
    allocations,
    probe::{Backend, calls_only_ready, cancel_everywhere, clones_share, survives_panic},
};
use tokio::time::sleep;
use tower::{Layer, Service, ServiceExt, service_fn};

use support::{MS, cache, key};

type ByKey = fn(&u32) -> Option<u32>;

fn layer() -> CacheLayer<u32, u32, ByKey> {
    cache("contract").layer(key as ByKey)
}

#[tokio::test(start_paused = true)]
async fn calls_a_service_that_was_ready() {
    calls_only_ready(layer()).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_nothing() {
    // Nothing is kept, so that each call is a miss.
    let cache: Cache<u32, u32> = Cache::builder("dropped_anywhere").ttl(Duration::ZERO).build();
    let nothing_left = |backend: &Backend| assert_eq!(backend.reservations(), 0);
    cancel_everywhere(cache.layer(key), |_| {}, nothing_left).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_breaks_nothing() {
    survives_panic(layer()).await;
}

#[tokio::test(start_paused = true)]
async fn clones_and_siblings_share_the_values() {
    clones_share(layer, async |first, second, backend| {
        assert_eq!(first.oneshot(1).await.unwrap(), 1);
        assert_eq!(second.oneshot(1).await.unwrap(), 1);
        assert_eq!(backend.calls(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn regression_23_a_hit_never_asks_the_backend_and_a_hundred_misses_are_one_call() {
    let backend = Backend::new();
    let service = layer().layer(backend.service::<BoxError>());
    backend.reply_after(2);
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(service.clone().oneshot(5))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), 5);
    }
    assert_eq!(backend.calls(), 1);

    let never = layer();
    let filled = never.cache();
    filled.insert(5, 5).await.unwrap();
    let mut service = never.layer(NeverReady);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    assert!(matches!(pin!(service.call(5)).poll(&mut cx), Poll::Ready(Ok(5))));
    assert!(pin!(service.call(6)).poll(&mut cx).is_pending());
}

#[derive(Clone)]
struct NeverReady;

impl Service<u32> for NeverReady {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Pending<Result<u32, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Pending
    }

    fn call(&mut self, _: u32) -> Self::Future {
        pending()
    }
}

/// What takes a cache of 50,000 values is as cheap as what takes one of 50.
#[test]
fn regression_24_room_is_made_without_a_search_and_values_are_shared() {
    let rounds = |entries: u64| {
        let cache: Cache<u64, Arc<u64>> = Cache::builder("regression_24").max_weight(entries).build();
        let mut insert = |key: u64| {
            let mut insert = pin!(cache.insert(key, Arc::new(key)));
            assert!(insert.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        };
        (0..entries * 2).for_each(&mut insert);
        let best = (0..5_u64).map(|round| {
            let start = tokio::time::Instant::now();
            (0..20_000).for_each(|key| insert((round + 10) * 1_000_000 + key));
            start.elapsed()
        });
        let best = best.min().unwrap();
        assert!(cache.stats().weight <= entries);
        assert!(cache.stats().evicted > 0);
        best
    };
    let (few, many) = (rounds(50), rounds(50_000));
    assert!(many < few * 20, "{few:?} {many:?}");

    let cache: Cache<u8, Arc<u64>> = cache("regression_24 shared");
    let value = Arc::new(7);
    let mut insert = pin!(cache.insert(1, value.clone()));
    assert!(insert.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    assert!(Arc::ptr_eq(&cache.get(&1).unwrap(), &value));
}

#[tokio::test(start_paused = true)]
async fn a_hit_allocates_nothing_and_neither_does_a_miss_that_is_not_kept() {
    let cache: Cache<u32, u32> = Cache::builder("a_hit_allocates")
        .expiry(|key, _| (*key == 0_u32).then_some(Duration::from_secs(1)))
        .build();
    let mut service = cache.layer(key).layer(service_fn(|request: u32| ready(Ok::<_, BoxError>(request))));
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = |request: u32| assert!(pin!(service.call(request)).poll(&mut cx).is_ready());
    (0..100).for_each(&mut call);
    assert_eq!(allocations(|| (0..100).for_each(|_| call(0))).count, 0);
    assert_eq!(allocations(|| (1..100).for_each(&mut call)).count, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_a_key_goes_past_and_a_panic_of_the_key_function_harms_one_call() {
    let cache: Cache<u32, u32> = cache("without_a_key");
    let by_key = |request: &u32| match *request {
        0 => panic!("it does"),
        request => (request > 10).then_some(request),
    };
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let service = cache.layer(by_key).layer(service_fn(move |request: u32| {
        counted.fetch_add(1, Relaxed);
        ready(Ok::<_, BoxError>(request))
    }));
    for request in [1, 1, 11, 11] {
        assert_eq!(service.clone().oneshot(request).await.unwrap(), request);
    }
    assert_eq!((calls.load(Relaxed), cache.stats().passed), (3, 2));
    assert!(tokio::spawn(service.clone().oneshot(0)).await.unwrap_err().is_panic());
    assert_eq!(service.oneshot(11).await.unwrap(), 11);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_users_functions_frees_the_key() {
    let cache: Cache<u32, u32> = Cache::builder("users_functions")
        .weigher(|_, value| if *value == 0 { panic!("it does") } else { 1 })
        .build();
    let bad = cache.clone();
    let bad = tokio::spawn(async move { bad.get_or_load(1, async || Ok::<_, BoxError>(0)).await });
    assert!(bad.await.unwrap_err().is_panic());
    assert_eq!(cache.get_or_load(1, async || Ok::<_, BoxError>(1)).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tag_invalidates_all_that_has_it_also_what_is_on_its_way() {
    let cache: Cache<u32, u32> = Cache::builder("a_tag")
        .tags(|key: &u32, _| vec![if key.is_multiple_of(2) { "even".into() } else { "odd".into() }])
        .build();
    for key in 0..10 {
        cache.insert(key, key).await.unwrap();
    }
    let late = cache.clone();
    let late = tokio::spawn(async move {
        let load = async || {
            sleep(MS).await;
            Ok::<_, BoxError>(12)
        };
        late.get_or_load(12, load).await
    });
    tokio::task::yield_now().await;
    cache.invalidate_tag("even").await.unwrap();
    assert_eq!((0..10).filter(|key| cache.get(key).is_some()).collect::<Vec<_>>(), [1, 3, 5, 7, 9]);
    assert_eq!(late.await.unwrap().unwrap(), 12);
    assert_eq!(cache.get(&12), None);
    cache.insert(12, 13).await.unwrap();
    assert_eq!(cache.get(&12), Some(13));
}

#[tokio::test(start_paused = true)]
async fn its_handle_tells_its_figures() {
    let cache: Cache<u32, u32> = cache("its_figures");
    let load = || cache.get_or_load(1, async || Ok::<_, BoxError>(1));
    load().await.unwrap();
    load().await.unwrap();
    let mut seen = Vec::new();
    cache.observe(&mut |metric| seen.push(format!("{} {:?}", metric.name, metric.value)));
    assert!(seen.contains(&"hits Counter(1)".to_owned()), "{seen:?}");
    assert!(seen.contains(&"entries Gauge(1.0)".to_owned()), "{seen:?}");
    assert_eq!(format!("{cache:?}"), "Cache { origin: cache `its_figures`, .. }");
}

#[tokio::test(start_paused = true)]
async fn flights_can_be_used_alone() {
    let flights: Arc<Flights<&str, u32>> = Arc::default();
    let Joined::Lead(leader) = flights.join(&"a") else { panic!("nobody leads") };
    let Joined::Follow(first) = flights.join(&"a") else { panic!("somebody leads") };
    let Joined::Follow(second) = flights.join(&"a") else { panic!("somebody leads") };
    assert!(flights.try_lead(&"a").is_none());
    drop(leader);
    let Landed::Lead(leader) = first.await else { panic!("it is his turn") };
    flights.detach(&"a");
    assert!(leader.is_detached());
    assert!(!leader.land_with(7, || panic!("it is not kept")));
    assert!(matches!(second.await, Landed::With(7)));
    assert!(flights.is_empty());
}
