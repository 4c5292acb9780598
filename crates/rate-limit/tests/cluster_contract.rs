//! What a cluster-wide limit owes as a layer.

#![cfg(feature = "cluster")]

mod cluster_support;

use std::future::poll_fn;

use buttress_core::{Deadline, Reason, Rejectable, Rejected};
use buttress_rate_limit::cluster::ClusterLayer;
use buttress_testkit::probe::{self, Backend, BoxError};
use cluster_support::{Fault, FaultyStore, MS, exact, leased, per_second};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn the_contract_of_a_layer() {
    for is_leased in [false, true] {
        let layer = |units| {
            let store = FaultyStore::new();
            store.set_latency(MS);
            let builder = ClusterLayer::builder("contract", per_second(units), store);
            if is_leased { builder.leased() } else { builder }.build()
        };
        probe::calls_only_ready(layer(100)).await;
        probe::releases_readiness(layer(100)).await;
        probe::survives_panic(layer(100)).await;
        let cancelled = layer(1_000);
        let limiter = cancelled.limiter();
        let nobody_waits = |_: &Backend| assert_eq!(limiter.snapshot().waiting, 0);
        probe::cancel_everywhere(cancelled, |_| {}, nobody_waits).await;
        probe::clones_share(
            || layer(2),
            async |mut first, mut second, _| {
                first.ready().await.unwrap().call(1).await.unwrap();
                second.ready().await.unwrap().call(1).await.unwrap();
                let refused = second.ready().await.unwrap().call(1).await.unwrap_err();
                assert_eq!(refused.rejected().unwrap().reason(), Reason::RateLimited);
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_does_not_wait_for_the_backend() {
    let layer = ClusterLayer::builder("unready", per_second(5), FaultyStore::new()).leased().build();
    let limiter = layer.limiter();
    while limiter.acquire(1).await.is_ok() {}
    let backend = Backend::new();
    backend.ready_after(1_000);
    let mut service = layer.layer(backend.service::<BoxError>());
    let refused = timeout(MS, async { service.ready().await.unwrap().call(1).await }).await.unwrap();
    assert_eq!(refused.unwrap_err().rejected().unwrap().reason(), Reason::RateLimited);
    // Found shut when it was polled, open when it is called: then the service is waited for.
    backend.ready_after(3);
    poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
    sleep(1_100 * MS).await;
    assert_eq!(service.call(7).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_ends_the_wait() {
    for is_leased in [false, true] {
        let store = FaultyStore::new();
        store.set(Fault::BlackHole);
        let limiter = if is_leased { leased("deadline", 10, &store) } else { exact("deadline", 10, &store) };
        let start = Instant::now();
        let refused = Deadline::at(start + 20 * MS).scope(limiter.acquire(1)).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::DeadlineExceeded);
        assert_eq!(start.elapsed(), 20 * MS);
        let refused = Deadline::at(start).scope(limiter.acquire(1)).await.unwrap_err();
        assert_eq!(refused.reason(), Reason::DeadlineExceeded);
        assert_eq!(start.elapsed(), 20 * MS, "at once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_is_never_polled_leaves_nothing_behind() {
    let store = FaultyStore::new();
    let layer = ClusterLayer::builder("unpolled", per_second(3), store.clone()).build();
    let mut service = layer.layer(service_fn(async |n: u32| Ok::<_, Rejected>(n)));
    for _ in 0..20 {
        drop(service.ready().await.unwrap().call(1));
        yield_now().await;
    }
    sleep(5 * MS).await;
    for _ in 0..3 {
        assert_eq!(service.ready().await.unwrap().call(1).await.unwrap(), 1);
    }
    assert!(service.ready().await.unwrap().call(1).await.is_err());
}
