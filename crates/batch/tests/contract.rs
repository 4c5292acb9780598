//! The contract of every layer.

mod support;

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use buttress_batch::{BatchLayer, Batched};
use buttress_core::BoxError;
use buttress_testkit::{
    allocations,
    probe::{Backend, Probed, calls_only_ready, cancel_everywhere, releases_readiness, survives_panic},
};
use tokio::{sync::Notify, time::sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

/// A probed service as one of many requests: it is called once for a batch, with the first.
#[derive(Clone)]
struct Many(Probed);

type Answers = Result<Vec<Result<u32, BoxError>>, BoxError>;

impl Service<Vec<u32>> for Many {
    type Response = Vec<Result<u32, BoxError>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Answers> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, requests: Vec<u32>) -> Self::Future {
        let call = self.0.call(requests[0]);
        Box::pin(async move {
            call.await?;
            Ok(requests.into_iter().map(Ok).collect())
        })
    }
}

/// A batcher around that.
struct Around(BatchLayer<u32, u32, BoxError>);

impl Layer<Probed> for Around {
    type Service = Batched<Many, u32, u32, BoxError>;

    fn layer(&self, inner: Probed) -> Self::Service {
        self.0.layer(Many(inner))
    }
}

/// With the lone caller's way, and without it.
fn layers(name: &str) -> [Around; 2] {
    let layer = BatchLayer::new(name);
    // Whoever would linger goes by a worker.
    [Around(layer.clone()), Around(layer.linger(Duration::from_nanos(1)))]
}

#[tokio::test(start_paused = true)]
async fn calls_a_service_that_was_ready() {
    for layer in layers("contract") {
        calls_only_ready(layer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn gives_readiness_back() {
    for layer in layers("gives_back") {
        releases_readiness(layer).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_dropped_anywhere_leaves_nothing() {
    let [alone, _] = layers("dropped_anywhere");
    cancel_everywhere(alone, |_| {}, |backend| assert_eq!(backend.reservations(), 0)).await;
}

/// The worker learns of it a moment later.
#[tokio::test(start_paused = true)]
async fn a_call_of_a_worker_that_is_dropped_anywhere_leaves_nothing() {
    let backend = Backend::new();
    let [_, layer] = layers("dropped_worker");
    let service = layer.layer(backend.service());
    for polls in 1..20 {
        for woken in [false, true] {
            backend.ready_after(2).reply_after(3);
            let mut call = Box::pin(service.clone().oneshot(1));
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..polls {
                if call.as_mut().poll(&mut cx).is_ready() {
                    break;
                }
                sleep(if woken { Duration::from_millis(2) } else { Duration::ZERO }).await;
            }
            drop(call);
            support::settle().await;
            assert_eq!((backend.in_flight(), backend.reservations()), (0, 0));
            backend.calm();
            assert_eq!(service.clone().oneshot(2).await.unwrap(), 2);
            support::settle().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_inside_breaks_nothing() {
    let [alone, _] = layers("panic_inside");
    survives_panic(alone).await;
}

/// Siblings do not: a batch is one call of one service.
#[tokio::test(start_paused = true)]
async fn clones_and_handles_gather_together() {
    let backend = Backend::new();
    let [layer, _] = layers("clones");
    let first = layer.layer(backend.service());
    let (second, handle) = (first.clone(), first.batch());
    backend.reply_after(3);
    let alone = tokio::spawn(first.clone().oneshot(0));
    support::settle().await;
    backend.hold();
    let before = tokio::spawn(first.clone().oneshot(1));
    support::settle().await;
    let calls = [tokio::spawn(first.oneshot(2)), tokio::spawn(second.oneshot(3))];
    let third = tokio::spawn(async move { handle.call(4).await });
    support::settle().await;
    backend.release();
    for (expected, call) in (0..).zip([alone, before].into_iter().chain(calls).chain([third])) {
        assert_eq!(call.await.unwrap().unwrap(), expected);
    }
    assert_eq!(backend.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_comes_while_the_service_is_not_ready_goes_together() {
    let called = Arc::new(AtomicU32::new(0));
    /// Each clone is ready after a while.
    struct Late(Arc<AtomicU32>, Pin<Box<tokio::time::Sleep>>);
    impl Clone for Late {
        fn clone(&self) -> Self {
            Self(self.0.clone(), Box::pin(sleep(Duration::from_millis(10))))
        }
    }
    impl Service<Vec<u32>> for Late {
        type Response = Vec<Result<u32, BoxError>>;
        type Error = BoxError;
        type Future = std::future::Ready<Answers>;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            ready!(self.1.as_mut().poll(cx));
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, requests: Vec<u32>) -> Self::Future {
            self.0.fetch_add(1, Relaxed);
            ready(Ok(requests.into_iter().map(Ok).collect()))
        }
    }
    let service = BatchLayer::new("not_ready").layer(Late(called.clone(), Box::pin(sleep(Duration::ZERO))));
    let calls: Vec<_> = (0..20)
        .map(|at| {
            let mut service = service.clone();
            tokio::spawn(async move {
                sleep(Duration::from_micros(100 * at)).await;
                service.ready().await?.call(at as u32).await
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert_eq!(called.load(Relaxed), 2, "the lone first one, and all others");
}

/// 64 callers on one thread, whose tasks there are before it is counted.
#[test]
fn a_call_allocates_nothing_and_a_batch_little() {
    const CALLERS: u64 = 64;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let service = BatchLayer::new("allocates").layer(service_fn(async |requests: Vec<u64>| {
        tokio::task::yield_now().await;
        Ok::<_, BoxError>(requests.into_iter().map(Ok::<_, BoxError>).collect())
    }));
    let go = Arc::new(Notify::new());
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (mut service, go) = (service.clone(), go.clone());
            runtime.spawn(async move {
                for round in 0..101 {
                    // After a first round, which allocates what stays.
                    if round == 1 {
                        go.notified().await;
                    }
                    let answer = service.ready().await.unwrap().call(caller).await;
                    assert_eq!(answer.unwrap(), caller);
                }
            })
        })
        .collect();
    runtime.block_on(support::settle());
    let counted = allocations(|| {
        go.notify_waiters();
        runtime.block_on(async {
            for caller in callers {
                caller.await.unwrap();
            }
        });
    });
    let stats = service.batch().stats();
    assert_eq!(stats.items, CALLERS * 101);
    assert!(stats.batches < 110, "{stats:?}");
    assert!(counted.count < 10 * stats.batches, "{counted:?}");
}
