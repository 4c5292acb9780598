//! The contract of every layer.

use std::{
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::{BoxError, Deadline};
use buttress_hedge::{Budget, CloneRequest, HedgeDelay, HedgeLayer};
use buttress_testkit::{
    allocations,
    probe::{
        Backend, calls_only_ready, cancel_everywhere, clones_share, drop_after, ready, releases_readiness,
        survives_panic,
    },
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

/// Every call that has to wait is hedged, up to two times.
fn layer() -> HedgeLayer<CloneRequest> {
    HedgeLayer::new("contract", CloneRequest).attempts(3).delay(Duration::ZERO).budget(Budget::unlimited())
}

#[tokio::test(start_paused = true)]
async fn keeps_the_readiness_contract() {
    for layer in [layer(), layer().delay(HedgeDelay::default())] {
        calls_only_ready(layer.clone()).await;
        releases_readiness(layer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_made_by_a_ready_service() {
    let backend = Backend::new();
    backend.ready_after(2).reply_after(9);
    let mut service = layer().layer(backend.service::<BoxError>());
    ready(&mut service).await.unwrap();
    assert_eq!(service.call(9).await.unwrap(), 9);
    assert_eq!((backend.calls(), backend.unready_calls(), backend.reservations()), (3, 0, 0));
}

/// At each await point: of the attempts, of the readiness of the clones, of the timer.
#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_nothing() {
    let nothing_left = |backend: &Backend| assert_eq!(backend.reservations(), 0);
    for delay in [Duration::ZERO, MS] {
        let layer = layer().delay(delay);
        cancel_everywhere(&layer, |backend| _ = backend.reply_after(9), nothing_left).await;
        // The first fails, and the others go on.
        let script = |backend: &Backend| _ = backend.reply_after(9).fail_next(1);
        cancel_everywhere(&layer, script, nothing_left).await;
    }
    // No hedge is called while its clone waits; dropped there, it gives back what it had.
    let backend = Backend::new();
    let mut service = layer().layer(backend.service::<BoxError>());
    ready(&mut service).await.unwrap();
    backend.hold().ready_after(3);
    assert!(drop_after(2, false, service.call(1)).await.is_none());
    assert_eq!((backend.calls(), backend.in_flight(), backend.reservations()), (1, 0, 0));
}

/// A clone that is ready only when it is too late for a hedge, while the first attempt goes on.
#[tokio::test(start_paused = true)]
async fn readiness_that_comes_too_late_is_given_back_at_once() {
    let backend = Backend::new();
    let mut service = layer().layer(backend.service::<BoxError>());
    ready(&mut service).await.unwrap();
    backend.hold().ready_after(1);
    let mut call = pin!(Deadline::after(MS).scope(service.call(1)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    advance(MS).await;
    assert!(call.as_mut().poll(&mut cx).is_pending());
    assert_eq!((backend.calls(), backend.in_flight(), backend.reservations()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_breaks_nothing() {
    survives_panic(layer()).await;
}

#[tokio::test(start_paused = true)]
async fn clones_and_siblings_share_the_budget() {
    let layer = || layer().budget(Budget::try_new(0.0, 1, Duration::from_secs(1)).unwrap());
    clones_share(layer, async |first, second, backend| {
        backend.reply_after(5);
        first.oneshot(1).await.unwrap();
        assert_eq!(backend.calls(), 2);
        second.oneshot(1).await.unwrap();
        assert_eq!(backend.calls(), 3);
    })
    .await;
}

/// Ready after so many polls that were pending.
fn after(polls: u32) -> impl Future<Output = io::Result<u32>> {
    let mut left = polls;
    poll_fn(move |_| {
        if left == 0 {
            return Poll::Ready(Ok(polls));
        }
        left -= 1;
        Poll::Pending
    })
}

#[tokio::test(start_paused = true)]
async fn a_first_attempt_in_time_allocates_nothing_whether_it_waits_or_not() {
    for delay in [HedgeDelay::default(), HedgeDelay::Fixed(100 * MS)] {
        let mut service = HedgeLayer::new("allocations", CloneRequest).delay(delay).layer(service_fn(after));
        let mut cx = Context::from_waker(Waker::noop());
        let mut call = |polls: u32| {
            let mut call = pin!(service.call(polls));
            (0..polls).for_each(|_| assert!(call.as_mut().poll(&mut cx).is_pending()));
            assert!(call.poll(&mut cx).is_ready());
        };
        // The runtime's timer, when it is first used.
        call(1);
        for polls in [0, 1, 3] {
            let counted = allocations(|| (0..200).for_each(|_| call(polls)));
            assert_eq!(counted.count, 0, "{polls} polls, {delay:?}");
        }
        let counted = allocations(|| drop(service.clone()));
        assert_eq!(counted.count, 0, "axum clones for each request");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hedge_allocates_only_when_it_starts() {
    let mut service = layer().attempts(2).layer(service_fn(after));
    let mut cx = Context::from_waker(Waker::noop());
    let counted = allocations(|| {
        let mut call = pin!(service.call(2));
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert!(call.as_mut().poll(&mut cx).is_pending());
        assert!(call.poll(&mut cx).is_ready());
    });
    assert_eq!(counted.count, 3, "the race, its list, and the future of the hedge");
}
