//! What a cluster-wide limit owes to its caller, to the service inside and to its store.
#![cfg(feature = "cluster")]

mod cluster_support;

use std::{
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    sync::atomic::Ordering::SeqCst,
    task::{Context, Poll, Waker},
};

use buttress_core::{Metric, Observe, Reason, Rejectable, Rejected, Value};
use buttress_rate_limit::{
    Limit, Rate,
    cluster::{Ask, ClusterLayer, MemoryStore, Store, Subject},
};
use buttress_testkit::{allocations, probe::BoxError};
use cluster_support::{FaultyStore, MS, SECOND, burst, exact, leased, per_second};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn exact_is_exact_and_goes_together() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let (one, two) = (exact("exact", 100, &store), exact("exact", 100, &store));
    let (first, second) = tokio::join!(burst(&one, 90), burst(&two, 90));
    assert_eq!(first.0 + second.0, 100);
    for refused in first.1.iter().chain(&second.1) {
        assert_eq!((refused.reason(), refused.sent()), (Reason::RateLimited, false));
        let after = refused.retry_after().expect("it is known");
        assert!((900 * MS..=1_010 * MS).contains(&after), "{after:?}");
    }
    assert!(store.round_trips() <= 6, "{}", store.round_trips());
    let after = second.1.last().unwrap().retry_after().unwrap();
    sleep(after).await;
    assert_eq!(burst(&one, 1).await.0, 1, "it is true");
}

/// An idle worker sends at once; what comes during a round trip goes with the next.
#[tokio::test(start_paused = true)]
async fn an_idle_limiter_asks_at_once_and_a_busy_one_gathers() {
    let store = FaultyStore::new();
    store.set_latency(5 * MS);
    let limiter = exact("gathers", 1_000, &store);
    let start = Instant::now();
    let first = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.acquire(1).await }
    });
    sleep(MS).await;
    assert_eq!(burst(&limiter, 100).await.0, 100);
    assert!(start.elapsed() <= 21 * MS, "{:?}", start.elapsed());
    assert!(first.await.unwrap().is_ok());
    assert_eq!((store.round_trips(), store.control().asks.load(SeqCst)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn units_that_can_never_be_are_refused_without_asking() {
    let store = FaultyStore::new();
    for limiter in [exact("never", 10, &store), leased("never", 10, &store)] {
        let refused = limiter.acquire(11).await.unwrap_err();
        assert_eq!((refused.reason(), refused.retry_after()), (Reason::RateLimited, None));
        limiter.acquire(0).await.unwrap();
    }
    assert_eq!(store.round_trips(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_of_several_limits_hold() {
    for is_leased in [false, true] {
        let builder = ClusterLayer::builder("several", per_second(10), FaultyStore::new())
            .and(Limit::from(Rate::per_minute(25)));
        let limiter = if is_leased { builder.leased() } else { builder }.build().limiter();
        let mut admitted = 0;
        for _ in 0..3_000 {
            admitted += usize::from(limiter.acquire(1).await.is_ok());
            advance(10 * MS).await;
        }
        assert_eq!(admitted, 25);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_have_weights_and_keys() {
    for is_leased in [false, true] {
        let builder = ClusterLayer::builder("weights", per_second(10), FaultyStore::new())
            .weight(|request: &(IpAddr, u32)| request.1)
            .keyed(|request: &(IpAddr, u32)| request.0);
        let layer = if is_leased { builder.leased() } else { builder }.build();
        let mut service =
            layer.layer(service_fn(async |request: (IpAddr, u32)| Ok::<_, BoxError>(request.1)));
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "::1".parse().unwrap());
        let mut call = async |request| service.ready().await.unwrap().call(request).await;
        assert_eq!(call((a, 7)).await.unwrap(), 7);
        let error = call((a, 4)).await.unwrap_err();
        assert_eq!(error.rejected().unwrap().reason(), Reason::RateLimited);
        assert_eq!(call((a, 3)).await.unwrap(), 3, "a smaller one fits");
        assert_eq!(call((b, 10)).await.unwrap(), 10, "another key");
        assert!(layer.limiter().acquire_for(&"10.0.0.1", 1).await.is_err(), "the same key, as a text");
        layer.limiter().acquire(10).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_decides_without_the_store() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let limiter = leased("leases", 10_000, &store);
    let mut at_once = 0;
    for _ in 0..1_000 {
        for _ in 0..4 {
            let mut call = pin!(limiter.acquire(1));
            if let Poll::Ready(result) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
                result.unwrap();
                at_once += 1;
            } else {
                call.await.unwrap();
            }
        }
        sleep(MS).await;
    }
    assert!(at_once > 3_900, "{at_once}");
    assert!(store.round_trips() < 60, "{}", store.round_trips());
    let snapshot = limiter.snapshot();
    assert_eq!((snapshot.nodes, snapshot.store_is_away, snapshot.waiting), (1, false, 0));
    assert!(snapshot.from_leases >= at_once && snapshot.leased > 0, "{snapshot:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_be_used_up_is_refused_at_once() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let limiter = leased("used-up", 100, &store);
    while limiter.acquire(1).await.is_ok() {}
    let trips = store.round_trips();
    let refused = allocations(|| {
        for _ in 0..1_000 {
            let mut call = pin!(limiter.acquire(1));
            let poll = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Err(refused)) = poll else { panic!("it is known: {poll:?}") };
            assert!(refused.retry_after().is_some_and(|after| after <= SECOND + 20 * MS));
        }
    });
    assert_eq!((refused.count, store.round_trips()), (0, trips));
    assert!(limiter.snapshot().refused_locally >= 1_000);
    let after = limiter.acquire(1).await.unwrap_err().retry_after().unwrap();
    sleep(after).await;
    limiter.acquire(1).await.expect("it is true");
}

/// A decision of a lease allocates nothing, as a service and without one.
#[tokio::test(start_paused = true)]
async fn a_local_decision_allocates_nothing() {
    let layer = ClusterLayer::builder("free", per_second(100_000), FaultyStore::new()).leased().build();
    let limiter = layer.limiter();
    for _ in 0..200 {
        for _ in 0..50 {
            limiter.acquire(1).await.unwrap();
        }
        sleep(MS).await;
    }
    let mut service = layer.layer(service_fn(|n: u32| std::future::ready(Ok::<_, Rejected>(n))));
    let mut context = Context::from_waker(Waker::noop());
    let counted = allocations(|| {
        for _ in 0..20 {
            assert!(service.poll_ready(&mut context).is_ready());
            assert!(pin!(service.call(1)).poll(&mut context).is_ready());
        }
    });
    assert_eq!(counted.count, 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_quiet_node_has_left_goes_back() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let limiter = leased("quiet", 1_000, &store);
    for _ in 0..200 {
        limiter.acquire(1).await.unwrap();
        sleep(MS).await;
    }
    assert!(limiter.snapshot().leased > 0);
    store.watch();
    sleep(200 * MS).await;
    assert_eq!(limiter.snapshot().leased, 0);
    let seen = store.seen();
    assert!(seen.iter().map(|ask| ask.returned).sum::<u32>() > 0);
    // Nobody calls, nothing is asked.
    sleep(10 * SECOND).await;
    assert!(store.seen().is_empty());
    // All of the limit is there for another.
    let other = exact("quiet", 1_000, &store);
    assert_eq!(burst(&other, 1_000).await.0, 1_000);
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_gives_back_and_says_goodbye() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let limiter = leased("goodbye", 1_000, &store);
    for _ in 0..200 {
        limiter.acquire(1).await.unwrap();
        sleep(MS).await;
    }
    let left = limiter.snapshot().leased;
    assert!(left > 0);
    store.watch();
    let other = limiter.clone();
    drop(limiter);
    sleep(MS).await;
    assert_eq!(tasks(), before + 1, "there is another handle");
    drop(other);
    sleep(10 * MS).await;
    let seen = store.seen();
    assert_eq!(seen.iter().map(|ask| ask.returned).sum::<u32>(), left);
    assert!(seen.last().unwrap().node.unwrap().lease.is_zero());
    assert_eq!(tasks(), before);
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_takes_nothing() {
    for is_leased in [false, true] {
        let store = FaultyStore::new();
        store.set_latency(5 * MS);
        let limiter = if is_leased { leased("leaves", 10, &store) } else { exact("leaves", 10, &store) };
        let poll = |call: std::pin::Pin<&mut dyn Future<Output = Result<(), Rejected>>>| {
            assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_pending());
        };
        // Before it was sent.
        {
            let mut call = pin!(limiter.acquire(10));
            poll(call.as_mut());
        }
        sleep(20 * MS).await;
        assert_eq!(store.round_trips(), 0);
        // On the way.
        {
            let mut call = pin!(limiter.acquire(10));
            poll(call.as_mut());
            sleep(2 * MS).await;
            assert_eq!((store.round_trips(), limiter.snapshot().waiting), (1, 1));
        }
        assert_eq!(limiter.snapshot().waiting, 0);
        sleep(30 * MS).await;
        limiter.acquire(10).await.expect("they came back");
        sleep(2 * SECOND).await;
        // When the answer is there, and he has not looked.
        {
            let mut call = pin!(limiter.acquire(10));
            poll(call.as_mut());
            sleep(15 * MS).await;
        }
        sleep(30 * MS).await;
        limiter.acquire(10).await.expect("they came back");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_beyond_the_bound_are_asked_for_call_by_call() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let layer = ClusterLayer::builder("keys", per_second(1_000), store.clone()).leased().capacity(16).build();
    let limiter = layer.limiter();
    // Busy ones, with leases.
    let busy: Vec<_> = (0..64)
        .map(|key| {
            let limiter = limiter.clone();
            tokio::spawn(async move {
                for _ in 0..300 {
                    limiter.acquire_for(&key, 1).await.unwrap();
                    sleep(MS).await;
                }
            })
        })
        .collect();
    sleep(250 * MS).await;
    assert!(limiter.snapshot().keys <= 16);
    for busy in busy {
        busy.await.unwrap();
    }
    for key in 0..10_000 {
        limiter.acquire_for(&format_args!("random-{key}"), 1).await.unwrap();
    }
    assert!(limiter.snapshot().keys <= 16);
    sleep(5 * SECOND).await;
    assert_eq!(limiter.snapshot().keys, 0, "idle ones are forgotten");
    // What they had left went back.
    for _ in 0..1_000 {
        limiter.acquire_for(&0, 1).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn its_figures_can_be_observed() {
    let store = FaultyStore::new();
    let limiter = leased("observed", 2, &store);
    while limiter.acquire(1).await.is_ok() {}
    let mut seen = Vec::new();
    limiter.observe(&mut |metric| seen.push(metric));
    assert_eq!(limiter.origin().name(), "observed");
    assert!(seen.contains(&Metric::new("nodes", Value::Gauge(1.0))));
    assert!(seen.contains(&Metric::new("round_trips", Value::Counter(store.round_trips()))));
    let refused = Metric::new("rejections", Value::Counter(1)).with_label("reason", "rate_limited");
    assert!(seen.contains(&refused), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_memory_store_decides_as_a_whole() {
    let store = MemoryStore::new();
    let limits = [per_second(10), Limit::from(Rate::per_minute(15))];
    let ask = |units| Ask::exactly(Subject::of("whole".into()), limits.into(), units);
    let take = async |ask: Ask| store.take(vec![ask]).await.pop().unwrap().unwrap();
    assert_eq!(take(ask(8)).await.units, 8);
    let none = take(ask(3)).await;
    assert_eq!((none.units, none.remaining), (0, 2));
    assert!(none.retry_after.is_some_and(|after| after <= 1_010 * MS));
    let mut some = ask(1);
    some.most = 100;
    assert_eq!(take(some.clone()).await.units, 2);
    sleep(1_100 * MS).await;
    some.returned = 4;
    assert_eq!(take(some).await.units, 9, "fifteen, less ten, and four given back");
    assert_eq!(take(ask(11)).await.retry_after, None);
    // Nobody is counted who did not say that he is there.
    assert_eq!(take(ask(0)).await.nodes, 0);
}
