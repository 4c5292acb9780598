//! The contract of every layer, and a naive model of what a call comes to.

use std::{
    future::ready,
    io,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::{Context, Waker},
    time::Duration,
};

use buttress_core::{Backoff, Deadline, Jitter};
use buttress_retry::{Budget, RetryLayer};
use buttress_testkit::{
    allocations,
    probe::{
        Backend, calls_only_ready, cancel_everywhere, clones_share, ready as readied, releases_readiness,
        survives_panic,
    },
};
use proptest::prelude::*;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

fn backoff() -> Backoff {
    Backoff::exponential(100 * MS, 1000 * MS).unwrap().with_jitter(Jitter::None)
}

fn layer() -> RetryLayer {
    RetryLayer::new("contract").backoff(backoff())
}

#[tokio::test(start_paused = true)]
async fn keeps_the_readiness_contract() {
    calls_only_ready(layer()).await;
    releases_readiness(layer()).await;
}

#[tokio::test(start_paused = true)]
async fn every_attempt_is_made_by_a_ready_service() {
    let backend = Backend::new();
    backend.ready_after(2).reply_after(2).fail_next(2);
    let mut service = layer().layer(backend.service::<buttress_core::BoxError>());
    readied(&mut service).await.unwrap();
    assert_eq!(service.call(9).await.unwrap(), 9);
    assert_eq!((backend.calls(), backend.unready_calls(), backend.reservations()), (3, 0, 0));
}

/// At each await point of the first attempt, the wait, the readiness and the attempts that follow.
#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_nothing() {
    let layer = layer().budget(Budget::unlimited());
    let nothing_left = |backend: &Backend| assert_eq!(backend.reservations(), 0);
    cancel_everywhere(&layer, |backend| _ = backend.fail_next(2), |_| {}).await;
    cancel_everywhere(layer, |backend| _ = backend.fail_next(1), nothing_left).await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_breaks_nothing() {
    survives_panic(layer()).await;
}

#[tokio::test(start_paused = true)]
async fn clones_and_siblings_share_the_budget() {
    let layer = || layer().budget(Budget::try_new(0.0, 2, Duration::from_secs(1)).unwrap());
    clones_share(layer, async |first, second, backend| {
        backend.fail_next(usize::MAX);
        first.oneshot(1).await.unwrap_err();
        assert_eq!(backend.calls(), 3);
        second.oneshot(1).await.unwrap_err();
        assert_eq!(backend.calls(), 4);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_success_allocates_nothing_and_a_call_that_is_repeated_once() {
    let calls = AtomicUsize::new(0);
    let inner = service_fn(|fails: bool| {
        let first = calls.fetch_add(1, Relaxed).is_multiple_of(2);
        ready(if fails && first {
            Err(io::ErrorKind::ConnectionReset.into())
        } else {
            Ok::<_, io::Error>(())
        })
    });
    let layer = layer().backoff(Backoff::constant(Duration::ZERO));
    let mut service = layer.layer(inner);
    let mut cx = Context::from_waker(Waker::noop());
    let mut call = |fails: bool| {
        let mut call = pin!(service.call(fails));
        // It yields before the second attempt.
        assert_eq!(call.as_mut().poll(&mut cx).is_pending(), fails);
        assert!(!fails || call.poll(&mut cx).is_ready());
    };
    let counted = allocations(|| (0..200).for_each(|_| call(false)));
    assert_eq!(counted.count, 0);
    let counted = allocations(|| (0..50).for_each(|_| call(true)));
    assert_eq!(counted.count, 50);
    assert_eq!(calls.load(Relaxed), 200 + 2 * 50, "with their retries");
}

/// When attempts are made, in milliseconds, told without timers.
fn naive(failures: usize, retries: u32, limit: Option<u64>) -> Vec<u64> {
    let mut attempts = vec![0];
    for retry in 0..retries.min(u32::try_from(failures).unwrap()) {
        let next = attempts.last().unwrap() + (100 << retry.min(4)).min(1000);
        if limit.is_some_and(|limit| next >= limit) {
            break;
        }
        attempts.push(next);
    }
    attempts
}

proptest! {
    #[test]
    fn makes_the_attempts_that_the_naive_model_makes(
        failures in 0..8_usize, retries in 0..8_u32, limit in prop::option::of(1..5000_u64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        runtime.block_on(async {
            let start = Instant::now();
            let attempts = std::sync::Mutex::new(Vec::new());
            let service = layer().retries(retries).layer(service_fn(|()| {
                let mut attempts = attempts.lock().unwrap();
                attempts.push(u64::try_from(start.elapsed().as_millis()).unwrap());
                ready(if attempts.len() > failures { Ok(()) } else { Err(io::Error::other("it fails")) })
            }));
            let call = service.oneshot(());
            let result = match limit {
                Some(limit) => Deadline::at(start + Duration::from_millis(limit)).scope(call).await,
                None => call.await,
            };
            let expected = naive(failures, retries, limit);
            prop_assert_eq!(result.is_ok(), expected.len() > failures);
            prop_assert_eq!(attempts.into_inner()?, expected);
            Ok(())
        })?;
    }
}
