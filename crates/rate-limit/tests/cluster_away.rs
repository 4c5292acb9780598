//! A cluster-wide limit whose store is away, or fails for some.
#![cfg(feature = "cluster")]

mod cluster_support;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use buttress_core::Reason;
use buttress_rate_limit::cluster::{ClusterLayer, WhenAway};
use cluster_support::{Fault, FaultyStore, MS, SECOND, burst, exact, leased, per_second};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn the_policy_decides_while_the_store_is_away() {
    let faults = [
        Fault::Fails,
        Fault::Hangs,
        Fault::BlackHole,
        Fault::Panics,
        Fault::PanicsAtOnce,
        Fault::Overgenerous,
        Fault::Forgetful,
    ];
    for fault in faults {
        for policy in [WhenAway::LocalShare, WhenAway::FailOpen, WhenAway::FailClosed] {
            for is_leased in [false, true] {
                let what = format!("{fault:?} {policy:?} leased: {is_leased}");
                let store = FaultyStore::new();
                store.set_latency(MS);
                let builder = ClusterLayer::builder("away", per_second(100), store.clone()).when_away(policy);
                let limiter = if is_leased { builder.leased() } else { builder }.build().limiter();
                limiter.acquire(1).await.unwrap();
                store.set(fault);
                sleep(2 * SECOND).await;
                let start = Instant::now();
                let mut admitted = 0;
                for call in 0..300 {
                    let begin = Instant::now();
                    let result = limiter.acquire(1).await;
                    let waited = begin.elapsed();
                    assert!(waited <= if call == 0 { 51 * MS } else { Duration::ZERO }, "{what}: {waited:?}");
                    match (policy, result) {
                        (WhenAway::LocalShare, Err(refused)) => {
                            assert_eq!(refused.reason(), Reason::RateLimited, "{what}");
                            assert!(refused.retry_after().is_some(), "{what}");
                        }
                        (WhenAway::FailClosed, Err(refused)) => {
                            assert_eq!(refused.reason(), Reason::Overloaded, "{what}");
                            assert!(refused.retry_after().is_some(), "{what}");
                        }
                        (_, Ok(())) => admitted += 1,
                        (_, Err(refused)) => panic!("{what}: {refused}"),
                    }
                }
                let expected = match policy {
                    WhenAway::LocalShare => 100,
                    WhenAway::FailClosed => 0,
                    _ => 300,
                };
                assert_eq!(admitted, expected, "{what}");
                assert!(limiter.snapshot().store_is_away, "{what}");
                // One attempt at a time, and not too often.
                let trips = store.round_trips();
                while start.elapsed() < 20 * SECOND {
                    let _ = limiter.acquire(1).await;
                    sleep(MS).await;
                }
                let trips = store.round_trips() - trips;
                assert!(fault == Fault::PanicsAtOnce || (15..60).contains(&trips), "{what}: {trips}");
                store.set(Fault::None);
                sleep(1_060 * MS).await;
                let _ = limiter.acquire(1).await;
                sleep(5 * MS).await;
                assert!(!limiter.snapshot().store_is_away, "{what}");
                assert_eq!(limiter.snapshot().absences, 1, "{what}");
                sleep(2 * SECOND).await;
                limiter.acquire(1).await.unwrap();
            }
        }
    }
}

/// Nobody calls: the store is left alone, and whoever calls next does not wait.
#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_is_not_asked_for_nobody() {
    let store = FaultyStore::new();
    store.set(Fault::Fails);
    let limiter = leased("nobody", 100, &store);
    limiter.acquire(1).await.unwrap();
    sleep(5 * SECOND).await;
    let trips = store.round_trips();
    sleep(60 * SECOND).await;
    assert_eq!(store.round_trips(), trips);
    store.set(Fault::None);
    let start = Instant::now();
    limiter.acquire(1).await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO);
    sleep(MS).await;
    assert!(!limiter.snapshot().store_is_away);
}

/// While the store is away each node holds its part; what it admitted is told when the store is back.
#[tokio::test(start_paused = true)]
async fn a_partition_admits_no_more_than_the_limit_and_what_was_given() {
    for is_leased in [false, true] {
        let stores: Vec<_> = {
            let store = FaultyStore::new();
            (0..4).map(|_| store.another()).collect()
        };
        let nodes: Vec<_> = stores
            .iter()
            .map(|store| if is_leased { leased("parted", 400, store) } else { exact("parted", 400, store) })
            .collect();
        let record = cluster_support::Record::new();
        let run = async |time: Duration| {
            let start = Instant::now();
            while start.elapsed() < time {
                nodes.iter().for_each(|node| record.call(node, 1));
                sleep(MS).await;
            }
        };
        run(3 * SECOND).await;
        stores.iter().for_each(|store| store.set(Fault::Fails));
        run(3 * SECOND).await;
        assert!(nodes.iter().all(|node| node.snapshot().store_is_away));
        stores.iter().for_each(|store| store.set(Fault::None));
        run(4 * SECOND).await;
        assert!(nodes.iter().all(|node| !node.snapshot().store_is_away));
        // Nodes with equal demand have had their part, or nearly so, of what the store gave when it goes away.
        let (worst, at) = record.worst_within(SECOND, 0, 5_000);
        assert!(worst <= 400 + 400 / 4, "{worst} at {at}");
        // They come back one after the other: the first finds the store idle, while the others hold to their parts.
        let (worst, at) = record.worst(SECOND);
        assert!(worst <= 2 * 400 + 400 / 16, "{worst} at {at}");
        assert!(record.admitted() >= 3_600, "{}", record.admitted());
    }
}

#[tokio::test(start_paused = true)]
async fn one_ask_that_fails_concerns_itself_alone() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    store.control().fails_some.store(true, SeqCst);
    let limiter = ClusterLayer::builder("some", per_second(10), store.clone())
        .when_away(WhenAway::FailClosed)
        .build()
        .limiter();
    let (good, bad) = tokio::join!(limiter.acquire_for(&"good", 1), limiter.acquire_for(&"bad-x", 1));
    good.unwrap();
    assert_eq!(bad.unwrap_err().reason(), Reason::Overloaded);
    assert!(!limiter.snapshot().store_is_away);
}

#[test]
fn it_outlives_the_runtime_of_its_worker() {
    let store = FaultyStore::new();
    let limiter = leased("runtimes", 1_000, &store);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for _ in 0..3 {
        runtime().block_on(async { assert_eq!(burst(&limiter, 10).await.0, 10) });
    }
    assert!(!limiter.snapshot().store_is_away);

    // One that is there, but that nobody drives.
    let idle = runtime();
    idle.block_on(async { limiter.acquire(1).await.unwrap() });
    let exact = exact("runtimes", 1_000, &store);
    idle.block_on(async { exact.acquire(1).await.unwrap() });
    runtime().block_on(async {
        exact.acquire(1).await.unwrap();
        let trips = store.round_trips();
        for _ in 0..3 {
            exact.acquire(1).await.unwrap();
        }
        // And one to tell of the call that was decided without the store.
        assert!((3..=4).contains(&(store.round_trips() - trips)), "there is another worker");
    });
    drop(idle);
}
