//! Deciding without waiting, and settings without bounds.
#![cfg(feature = "cluster")]

mod cluster_support;

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use buttress_core::Reason;
use buttress_rate_limit::{
    Limit, Rate,
    cluster::{ClusterLayer, ClusterLimiter, WhenAway},
};
use cluster_support::{Fault, FaultyStore, MS};
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_millis(50);

fn leased(units: u32, store: &FaultyStore) -> ClusterLimiter {
    ClusterLayer::builder("now", Rate::per_second(units), store.clone()).leased().build().limiter()
}

/// As `Budget::also` takes it.
fn also(limiter: &ClusterLimiter) -> Box<dyn Fn() -> bool + Send + Sync> {
    let limiter = limiter.clone();
    Box::new(move || limiter.try_acquire(1).is_ok())
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_wait_rings_for_those_who_come_after_it() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let limiter = leased(1_000, &store);
    let refused = limiter.try_acquire(100).unwrap_err();
    assert_eq!((refused.reason(), refused.retry_after()), (Reason::RateLimited, Some(TIMEOUT)));
    assert_eq!(store.round_trips(), 0, "it asks nobody itself");
    sleep(3 * MS).await;
    limiter.try_acquire(100).expect("more than a lease has, as it was wished for");
    limiter.try_acquire(1).unwrap_err();
    sleep(3 * MS).await;
    limiter.try_acquire(1).expect("a lease");
    // Nobody comes: what was wished for goes back.
    limiter.try_acquire(800).unwrap_err();
    sleep(SECOND).await;
    assert_eq!(limiter.snapshot().leased, 0);
    let trips = store.round_trips();
    sleep(10 * SECOND).await;
    assert_eq!(store.round_trips(), trips, "nothing is asked for nobody");
    assert_eq!(limiter.try_acquire(1_001).unwrap_err().retry_after(), None, "never");
    limiter.try_acquire(0).unwrap();
    limiter.acquire(1_000).await.expect("all of it is there");
    // What is known to be used up is refused with its time, and nobody is asked.
    limiter.acquire(1).await.unwrap_err();
    let trips = store.round_trips();
    let after = limiter.try_acquire(1).unwrap_err().retry_after().unwrap();
    assert!((800 * MS..=1_010 * MS).contains(&after), "{after:?}");
    assert_eq!(store.round_trips(), trips);
}

/// What several nodes admit by such a closure is bounded by the limit, and nearly all of it is used.
#[tokio::test(start_paused = true)]
async fn a_budget_of_the_whole_cluster_holds() {
    let store = FaultyStore::new();
    store.set_latency(MS);
    let nodes: Vec<_> = (0..4).map(|_| leased(400, &store.another())).collect();
    let budgets: Vec<_> = nodes.iter().map(also).collect();
    let mut admitted = vec![0_u32; 6_000];
    for at in &mut admitted {
        *at = budgets.iter().map(|budget| u32::from(budget())).sum();
        sleep(MS).await;
    }
    let worst = admitted.windows(1_000).map(|second| second.iter().sum::<u32>()).max().unwrap();
    assert!(worst <= 400 + 400 / 16 * 3 / 2, "{worst}");
    let used = admitted[1_000..].iter().sum::<u32>();
    assert!(used >= 400 * 5 * 9 / 10, "{used}");
}

/// What was wished for during a round trip is not asked for again, where that has settled it.
#[tokio::test(start_paused = true)]
async fn a_wish_that_was_answered_is_forgotten() {
    for is_there in [false, true] {
        let store = FaultyStore::new();
        let other = leased(1_000, &store.another());
        if !is_there {
            other.acquire(1_000).await.unwrap();
        }
        store.set_latency(2 * MS);
        let limiter = leased(1_000, &store);
        limiter.try_acquire(100).unwrap_err();
        sleep(MS).await;
        assert_eq!(store.round_trips(), 1);
        limiter.try_acquire(100).unwrap_err();
        sleep(50 * MS).await;
        assert_eq!(store.round_trips(), 1);
        assert_eq!(limiter.try_acquire(100).is_ok(), is_there);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_decides_without_waiting_too() {
    let store = FaultyStore::new();
    let limiter =
        ClusterLayer::builder("now", Rate::per_second(100), store.clone()).leased().build().limiter();
    limiter.try_acquire_for(&"a", 2).unwrap_err();
    sleep(MS).await;
    limiter.try_acquire_for(&"b", 2).unwrap_err();
    limiter.try_acquire_for(&"a", 2).unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_leases_nothing_is_at_hand() {
    let store = FaultyStore::new();
    let limiter = ClusterLayer::builder("now", Rate::per_second(10), store.clone()).build().limiter();
    for _ in 0..10 {
        let refused = limiter.try_acquire(1).unwrap_err();
        assert_eq!((refused.reason(), refused.retry_after()), (Reason::RateLimited, None));
        sleep(5 * MS).await;
    }
    assert_eq!(store.control().asks.load(SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn the_policy_decides_at_once_while_the_store_is_away() {
    for (policy, expected) in
        [(WhenAway::LocalShare, 10), (WhenAway::FailOpen, 20), (WhenAway::FailClosed, 0)]
    {
        let store = FaultyStore::new();
        store.set(Fault::Fails);
        let limiter = ClusterLayer::builder("now", Rate::per_second(10), store.clone())
            .leased()
            .when_away(policy)
            .build()
            .limiter();
        limiter.try_acquire(1).unwrap_err();
        sleep(MS).await;
        assert!(limiter.snapshot().store_is_away);
        let budget = also(&limiter);
        assert_eq!((0..20).filter(|_| budget()).count(), expected, "{policy:?}");
        // And has it looked for.
        store.set(Fault::None);
        sleep(SECOND).await;
        budget();
        sleep(MS).await;
        assert!(!limiter.snapshot().store_is_away);
    }
}

/// Outside of a runtime it neither panics nor blocks; on one that nobody drives another worker comes.
#[test]
fn it_needs_no_runtime_to_refuse() {
    let store = FaultyStore::new();
    let limiter = leased(1_000, &store);
    limiter.try_acquire(5).unwrap_err();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let idle = runtime();
    idle.block_on(async {
        limiter.try_acquire(5).unwrap_err();
        sleep(10 * MS).await;
        limiter.try_acquire(5).unwrap();
    });
    runtime().block_on(async {
        for _ in 0..80 {
            if limiter.try_acquire(7).is_ok() {
                return;
            }
            sleep(20 * MS).await;
        }
        panic!("nobody asks");
    });
    drop(idle);
}

#[tokio::test(start_paused = true)]
async fn settings_have_no_bounds() {
    let store = FaultyStore::new();
    let limit = Limit::from(Rate::per_second(10));
    let limiter = ClusterLayer::builder("bounds", limit, store.clone())
        .timeout(Duration::MAX)
        .capacity(usize::MAX)
        .build()
        .limiter();
    limiter.acquire(1).await.unwrap();
    limiter.acquire_for(&"key", 1).await.unwrap();
    store.set(Fault::Fails);
    limiter.acquire(1).await.unwrap();
    limiter.acquire(1).await.unwrap();
    assert!(limiter.snapshot().store_is_away);
}
