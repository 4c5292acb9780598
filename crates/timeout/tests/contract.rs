//! The contract of every layer, and a naive model of what a call comes to.

use std::{future::ready, io, time::Duration};

use buttress_core::{BoxError, Deadline, Reason, Rejectable};
use buttress_testkit::{
    allocations,
    probe::{calls_only_ready, cancel_everywhere, releases_readiness, survives_panic},
};
use buttress_timeout::TimeoutLayer;
use proptest::prelude::*;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn keeps_the_readiness_contract() {
    calls_only_ready(TimeoutLayer::new(SECOND)).await;
    releases_readiness(TimeoutLayer::new(SECOND)).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_nothing() {
    cancel_everywhere(TimeoutLayer::new(SECOND), |_| {}, |_| {}).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_breaks_nothing() {
    survives_panic(TimeoutLayer::new(SECOND)).await;
}

#[tokio::test(start_paused = true)]
async fn readiness_that_a_refused_call_did_not_use_serves_the_next_one() {
    let backend = buttress_testkit::probe::Backend::new();
    let mut service = TimeoutLayer::new(SECOND).layer(backend.service::<BoxError>());
    let refused = Deadline::at(Instant::now()).scope(async { service.ready().await?.call(1).await }).await;
    assert_eq!(refused.unwrap_err().rejected().unwrap().reason(), Reason::DeadlineExceeded);
    assert_eq!((backend.calls(), backend.reservations()), (0, 1));
    assert_eq!(service.ready().await.unwrap().call(2).await.unwrap(), 2);
    assert_eq!((backend.calls(), backend.unready_calls(), backend.reservations()), (1, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_ready_at_once_allocates_nothing() {
    let mut service = TimeoutLayer::new(SECOND).layer(service_fn(|n: u32| ready(Ok::<_, io::Error>(n))));
    let counted = allocations(|| {
        for n in 0..100 {
            let call = std::pin::pin!(service.call(n));
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(call.poll(&mut cx).is_ready());
        }
    });
    assert_eq!(counted.count, 0);
}

/// What must come of a call, told without timers: milliseconds until it ends, and how.
fn naive(answer: u64, own: u64, surrounding: Option<u64>) -> (u64, Result<(), Reason>) {
    let surrounding = surrounding.unwrap_or(u64::MAX);
    // An answer that needs no waiting comes under every limit, unless the call was not even made.
    if surrounding == 0 {
        return (0, Err(Reason::DeadlineExceeded));
    }
    if answer == 0 || answer <= own.min(surrounding) {
        return (answer, Ok(()));
    }
    if surrounding <= own {
        (surrounding, Err(Reason::DeadlineExceeded))
    } else {
        (own, Err(Reason::TimedOut))
    }
}

proptest! {
    #[test]
    fn comes_to_what_the_naive_model_says(
        answer in 0..200_u64, own in 0..200_u64, surrounding in prop::option::of(0..200_u64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            let service = TimeoutLayer::new(Duration::from_millis(own)).layer(service_fn(async |answer| {
                if answer > 0 {
                    sleep(Duration::from_millis(answer)).await;
                }
                Ok::<_, io::Error>(())
            }));
            let start = Instant::now();
            let call = service.oneshot(answer);
            let result = match surrounding {
                Some(limit) => Deadline::after(Duration::from_millis(limit)).scope(call).await,
                None => call.await,
            };
            let result = result.map_err(|error| error.rejected().unwrap().reason());
            let took = u64::try_from(start.elapsed().as_millis()).unwrap();
            prop_assert_eq!((took, result), naive(answer, own, surrounding));
            Ok(())
        })?;
    }
}
