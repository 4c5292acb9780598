//! The readiness contract.

use std::fmt::Debug;

use tower_layer::Layer;
use tower_service::Service;

use super::drive::{assert_works, call, in_time, ready, settles};
use super::{Backend, Probed};

/// How many pending polls readiness takes.
const WAITS: [usize; 3] = [0, 1, 3];

/// More reservations than any limit under a probe allows: one that is not given back shows.
const MANY: usize = 64;

/// The service that is called is one that was polled ready for this call: in a row, with several calls in
/// flight, with clones taken at any moment, and after a failure.
///
/// The layer may reject calls, but not all of them.
///
/// # Panics
/// When the rule is broken, when a call hangs, or when the backend was never called at all.
pub async fn calls_only_ready<L>(layer: L)
where
    L: Layer<Probed>,
    L::Service: Service<u32, Response = u32> + Clone,
    <L::Service as Service<u32>>::Error: Debug,
{
    for wait in WAITS {
        let backend = Backend::new();
        backend.ready_after(wait);
        let service = || layer.layer(backend.service());
        in_time(one_after_another(service(), &backend), "calls one after another").await;
        assert_was_ready(&backend, "calls one after another");
        in_time(two_in_flight(service()), "two calls in flight").await;
        assert_was_ready(&backend, "two calls in flight");
        in_time(clone_in_place(service()), "a clone of a ready service in its place").await;
        assert_was_ready(&backend, "a clone of a ready service in its place");
        in_time(clone_beside(service()), "a clone of a ready service beside it").await;
        assert_was_ready(&backend, "a clone of a ready service beside it");
        backend.fail_next(1);
        in_time(one_after_another(service(), &backend), "calls after a failure").await;
        assert_was_ready(&backend, "calls after a failure");
        if wait == 0 {
            assert!(
                backend.calls() > 0,
                "calls_only_ready proves nothing: the layer never called its service"
            );
        }
    }
}

/// Readiness that was taken and not used is given back when the service is dropped, a clone of a ready
/// service has none, and the layer itself keeps nothing back either.
///
/// # Panics
/// When the rule is broken, or when a call hangs or fails.
pub async fn releases_readiness<L>(layer: L)
where
    L: Layer<Probed>,
    L::Service: Service<u32, Response = u32> + Clone,
    <L::Service as Service<u32>>::Error: Debug,
{
    for wait in WAITS {
        let backend = Backend::new();
        backend.ready_after(wait);
        let ready_service = async || {
            let mut service = layer.layer(backend.service());
            in_time(ready(&mut service), "waiting for readiness").await.expect("the service is ready");
            service
        };

        drop(ready_service().await);
        assert_given_back(&backend, "a ready service was dropped").await;

        let service = ready_service().await;
        let clone = service.clone();
        drop(service);
        assert_given_back(&backend, "a ready service was dropped and its clone lives").await;
        drop(clone);

        let mut waiting = layer.layer(backend.service());
        super::drop_after(1, false, ready(&mut waiting)).await;
        drop(waiting);
        assert_given_back(&backend, "a service was dropped while it waited for readiness").await;

        for _ in 0..MANY {
            drop(ready_service().await);
        }
        assert_given_back(&backend, "many ready services were dropped").await;

        backend.calm();
        let mut service = layer.layer(backend.service());
        assert_works(&mut service, "releases_readiness: a call after readiness was given back many times")
            .await;
        let mut clone = service.clone();
        drop(service);
        assert_works(&mut clone, "releases_readiness: a call on a clone").await;
    }
}

async fn one_after_another<S>(mut service: S, backend: &Backend)
where
    S: Service<u32, Response = u32>,
{
    for request in 0..3 {
        // A rejection is the layer's good right. Asking for readiness twice must change nothing.
        if ready(&mut service).await.is_ok() && ready(&mut service).await.is_ok() {
            assert!(
                backend.reservations() <= 1,
                "calls_only_ready: readiness was reserved twice for one call"
            );
            let _ = service.call(request).await;
        }
    }
}

async fn two_in_flight<S>(mut service: S)
where
    S: Service<u32, Response = u32>,
{
    if ready(&mut service).await.is_ok() {
        let first = service.call(1);
        let _ = tokio::join!(first, call(&mut service, 2));
    }
}

async fn clone_in_place<S>(mut service: S)
where
    S: Service<u32, Response = u32> + Clone,
{
    if ready(&mut service).await.is_ok() {
        let mut clone = service.clone();
        drop(service);
        let _ = call(&mut clone, 1).await;
    }
}

async fn clone_beside<S>(mut service: S)
where
    S: Service<u32, Response = u32> + Clone,
{
    if ready(&mut service).await.is_ok() {
        let mut clone = service.clone();
        let first = service.call(1);
        let _ = tokio::join!(first, call(&mut clone, 2));
        let _ = call(&mut service, 3).await;
    }
}

fn assert_was_ready(backend: &Backend, when: &str) {
    let unready = backend.unready_calls();
    assert_eq!(unready, 0, "calls_only_ready: a service was called that had not been polled ready ({when})");
}

async fn assert_given_back(backend: &Backend, when: &str) {
    let given_back = settles(|| backend.reservations() == 0).await;
    assert!(given_back, "releases_readiness: {} reservations are left after {when}", backend.reservations());
}
