//! Units that were not used go back, but only while they count at the store.
#![cfg(feature = "cluster")]

mod cluster_support;

use std::{
    pin::Pin,
    sync::atomic::Ordering::SeqCst,
    task::{Context, Waker},
    time::Duration,
};

use buttress_core::Rejected;
use buttress_rate_limit::{
    Limit, Rate,
    cluster::{ClusterLayer, ClusterLimiter, WhenAway},
};
use cluster_support::{Fault, FaultyStore, MS};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

fn limiter(limit: Limit, store: &FaultyStore, is_leased: bool) -> ClusterLimiter {
    let builder = ClusterLayer::builder("returns", limit, store.clone());
    if is_leased { builder.leased() } else { builder }.build().limiter()
}

type Call<'a> = Pin<Box<dyn Future<Output = Result<(), Rejected>> + 'a>>;

/// A call that got its answer, and has not looked at it.
async fn answered(limiter: &ClusterLimiter, units: u32) -> Call<'_> {
    let mut call: Call<'_> = Box::pin(limiter.acquire(units));
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    sleep(5 * MS).await;
    call
}

async fn admitted(limiter: &ClusterLimiter, most: u32) -> u32 {
    for admitted in 0..most {
        if limiter.acquire(1).await.is_err() {
            return admitted;
        }
    }
    most
}

/// Of a call that is dropped long after it was answered.
#[tokio::test(start_paused = true)]
async fn what_was_granted_long_ago_frees_no_units_of_others() {
    for limit in [Limit::from(Rate::per_second(10)), Limit::sliding_log(Rate::per_second(10)).unwrap()] {
        let store = FaultyStore::new();
        let (node, other) = (limiter(limit, &store, false), limiter(limit, &store, false));
        let call = answered(&node, 10).await;
        sleep(2_500 * MS).await;
        assert_eq!(admitted(&other, 20).await, 10);
        drop(call);
        sleep(20 * MS).await;
        assert_eq!(admitted(&other, 20).await, 0);
        // Those that count yet do go back.
        sleep(2_500 * MS).await;
        let call = answered(&node, 10).await;
        sleep(200 * MS).await;
        assert_eq!(admitted(&other, 20).await, 0);
        drop(call);
        sleep(20 * MS).await;
        assert_eq!(admitted(&other, 20).await, 10);
    }
}

/// They were counted in the window before, though they are younger than half a period.
#[tokio::test(start_paused = true)]
async fn nothing_goes_back_over_the_edge_of_a_fixed_window() {
    let limit = Limit::fixed_window(Rate::per_second(10));
    let store = FaultyStore::new();
    let (node, other) = (limiter(limit, &store, false), limiter(limit, &store, false));
    // A window begins.
    assert!(other.acquire(10).await.is_ok());
    while other.acquire(10).await.is_err() {
        sleep(MS).await;
    }
    sleep(1_850 * MS).await;
    let call = answered(&node, 10).await;
    sleep(200 * MS).await;
    assert_eq!(admitted(&other, 20).await, 10, "the next window");
    sleep(230 * MS).await;
    drop(call);
    sleep(20 * MS).await;
    assert_eq!(admitted(&other, 20).await, 0);
}

/// What is leased when the store goes away is not given back when it returns: others had the limit meanwhile.
#[tokio::test(start_paused = true)]
async fn what_was_leased_before_an_absence_is_not_given_back_after_it() {
    // It is older than half of a period, or only from before the absence.
    for rate in [Rate::per_second(1_600), Rate::per_minute(96_000)] {
        let limit = Limit::from(rate);
        let store = FaultyStore::new();
        store.set_latency(MS);
        let theirs = store.another();
        let (node, other) = (limiter(limit, &store, true), limiter(limit, &theirs, false));
        for _ in 0..300 {
            node.acquire(1).await.unwrap();
            sleep(MS).await;
        }
        let left = node.snapshot().leased;
        assert!(left > 30, "{left}");
        store.set(Fault::Fails);
        node.acquire(1_000).await.unwrap();
        assert!(node.snapshot().store_is_away);
        sleep(3 * SECOND).await;
        admitted(&other, 2_000).await;
        store.set(Fault::None);
        store.watch();
        sleep(1_060 * MS).await;
        let _ = node.acquire(1).await;
        sleep(50 * MS).await;
        assert!(!node.snapshot().store_is_away);
        // Before what it was given since can have gone back.
        assert_eq!(store.seen().iter().map(|ask| ask.returned).sum::<u32>(), 0);
    }
}

/// The worker's runtime ends while it has a lease: the one that comes instead gives it back when its time is up.
#[test]
fn another_worker_keeps_what_the_first_had_in_mind() {
    let store = FaultyStore::new();
    let node = limiter(Limit::from(Rate::per_second(800)), &store, true);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime().block_on(async {
        for _ in 0..60 {
            node.acquire(1).await.unwrap();
            sleep(2 * MS).await;
        }
        // There is something that it has to look at.
        node.acquire(1).await.unwrap();
        assert!(node.snapshot().leased > 0);
    });
    // Until the time is past that it had in mind.
    runtime().block_on(async { sleep(300 * MS).await });
    runtime().block_on(async {
        // More than there is at hand.
        node.acquire(100).await.unwrap();
        for _ in 0..60 {
            node.acquire(1).await.unwrap();
            sleep(2 * MS).await;
        }
        store.watch();
        sleep(400 * MS).await;
        assert!(store.seen().iter().map(|ask| ask.returned).sum::<u32>() > 0);
    });
}

/// One of a key that there is no room for leaves while the store is asked.
#[tokio::test(start_paused = true)]
async fn what_a_crowded_out_key_was_given_in_vain_goes_back() {
    for is_leased in [false, true] {
        let store = FaultyStore::new();
        store.set_latency(5 * MS);
        let builder =
            ClusterLayer::builder("crowd", Limit::from(Rate::per_second(10)), store.clone()).capacity(1);
        let node = if is_leased { builder.leased() } else { builder }.build().limiter();
        let mut busy: Call<'_> = Box::pin(node.acquire_for(&"busy", 10));
        assert!(busy.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        {
            let mut call: Call<'_> = Box::pin(node.acquire_for(&"crowded", 10));
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            sleep(2 * MS).await;
            assert_eq!(node.snapshot().keys, 1);
        }
        sleep(30 * MS).await;
        busy.await.unwrap();
        node.acquire_for(&"crowded", 10).await.expect("they came back");
    }
}

/// The ask of a key fails among others, while there is a lease of it.
#[tokio::test(start_paused = true)]
async fn a_key_that_the_store_fails_for_is_forgotten_as_others_are() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let limit = Limit::from(Rate::per_second(1_600));
    let node = ClusterLayer::builder("failing", limit, store.clone())
        .leased()
        .when_away(WhenAway::FailClosed)
        .build()
        .limiter();
    for _ in 0..300 {
        node.acquire_for(&"a-x", 1).await.unwrap();
        node.acquire_for(&"good", 1).await.unwrap();
        sleep(MS).await;
    }
    store.control().fails_some.store(true, SeqCst);
    let (bad, good) = tokio::join!(node.acquire_for(&"a-x", 300), node.acquire_for(&"good", 300));
    good.unwrap();
    bad.unwrap_err();
    assert!(!node.snapshot().store_is_away);
    let trips = store.round_trips();
    sleep(5 * SECOND).await;
    assert!(store.round_trips() - trips < 30, "{}", store.round_trips() - trips);
    assert_eq!(node.snapshot().keys, 0);
    // The only key, of which nothing was ever given, while the store answers for the node itself.
    let node = ClusterLayer::builder("failing", limit, store.clone())
        .when_away(WhenAway::FailClosed)
        .build()
        .limiter();
    node.acquire_for(&"b-x", 1).await.unwrap_err();
    assert_eq!((node.snapshot().keys, node.snapshot().absences), (1, 0));
    sleep(10 * SECOND).await;
    assert_eq!(node.snapshot().keys, 0);
}

/// A node tells of itself with the limiter's own subject: a store may count nodes by subjects.
#[tokio::test(start_paused = true)]
async fn a_node_with_keys_tells_of_itself_with_its_own_subject() {
    for is_leased in [false, true] {
        let store = FaultyStore::new();
        store.set_latency(MS);
        store.watch();
        let node = || {
            let builder = ClusterLayer::builder("told", Limit::from(Rate::per_second(1_000)), store.clone());
            if is_leased { builder.leased() } else { builder }.build().limiter()
        };
        let nodes = [node(), node()];
        for call in 0..2_000 {
            nodes[0].acquire_for(&format_args!("a{}", call % 7), 1).await.unwrap();
            nodes[1].acquire_for(&format_args!("b{}", call % 7), 1).await.unwrap();
            sleep(MS).await;
        }
        assert!(nodes.iter().all(|node| node.snapshot().nodes == 2));
        let told: Vec<_> = store.seen().into_iter().filter(|ask| ask.node.is_some()).collect();
        assert!(told.iter().all(|ask| ask.subject.key().is_none() && ask.most == 0));
        assert!((8..=80).contains(&told.len()), "now and then: {}", told.len());
    }
}
