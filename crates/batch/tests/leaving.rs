//! Callers who go away, deadlines, and the end of a batcher.

mod support;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use buttress_core::{Deadline, Reason};
use support::{Backend, MS, all, batching, call, call_in_turn, layer, rejected, settle};
use tokio::{
    runtime::Builder,
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tower::{Layer, Service, ServiceExt, service_fn};

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn who_leaves_in_time_is_not_sent() {
    let backend = Backend::taking(MS);
    let service = batching("leaves", &backend);
    let mut calls = call_in_turn(&service, 0..8).await;
    for at in [7, 4, 2] {
        calls.remove(at).abort();
    }
    settle().await;
    assert_eq!(service.batch().stats().waiting, 3);
    all(calls).await;
    assert_eq!(backend.batches(), [vec![0], vec![1], vec![3, 5, 6]]);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_later_leaves_the_others_alone() {
    let backend = Backend::taking(10 * MS);
    let service = batching("leaves_later", &backend);
    let mut calls = call_in_turn(&service, 0..6).await;
    sleep(15 * MS).await;
    assert_eq!(backend.sizes(), [1, 1, 4]);
    calls.remove(4).abort();
    let results = all(calls).await;
    assert_eq!(results, [0, 1, 2, 3, 5].map(|request| Ok(request * 10)));
    assert_eq!(service.batch().stats().abandoned, 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_ends_with_its_last_caller() {
    let backend = Backend::taking(HOUR);
    let service = batching("hangs", &backend);
    let calls = call_in_turn(&service, 0..6).await;
    calls[0].abort();
    calls[1].abort();
    settle().await;
    // The first was alone, the second in a batch of one; the others could go then.
    assert_eq!(backend.sizes(), [1, 1, 4]);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    settle().await;
    let stats = service.batch().stats();
    assert_eq!((stats.abandoned, stats.waiting, stats.failed), (3, 0, 0));
    assert_eq!(backend.ended(), 0);
    assert_eq!(timeout(2 * HOUR, service.oneshot(7)).await.unwrap(), Ok(70));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_never_becomes_ready_is_let_go_with_the_last_who_waits() {
    /// Counts its clones.
    #[derive(Clone)]
    struct NeverReady(#[expect(dead_code, reason = "it is counted")] Arc<()>);
    impl Service<Vec<u32>> for NeverReady {
        type Response = Vec<Result<u32, support::Failure>>;
        type Error = support::Failure;
        type Future = std::future::Pending<support::Answer>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), support::Failure>> {
            Poll::Pending
        }

        fn call(&mut self, _: Vec<u32>) -> Self::Future {
            unreachable!("it is never ready")
        }
    }
    let alive = Arc::new(());
    let service = layer("never_ready").layer(NeverReady(alive.clone()));
    let calls = call_in_turn(&service, 0..3).await;
    assert_eq!(Arc::strong_count(&alive), 4, "the layer's, the lone caller's, the worker's");
    calls[1].abort();
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 4);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    settle().await;
    assert_eq!(Arc::strong_count(&alive), 2);
    timeout(MS, service.batch().close()).await.expect("nothing is left to do");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_kept_wherever_the_request_is() {
    let backend = Backend::taking(HOUR);
    let service = batching("deadline", &backend);
    let start = Instant::now();
    let within = |request, limit: u32| {
        let service = service.clone();
        tokio::spawn(async move { Deadline::after(limit * MS).scope(service.oneshot(request)).await })
    };
    let alone = within(0, 50);
    settle().await;
    let taken = within(1, 60);
    settle().await;
    let waits = within(2, 10);
    settle().await;
    assert_eq!(backend.sizes(), [1, 1]);
    let waits = rejected(waits.await.unwrap());
    assert_eq!((waits.reason(), waits.sent(), start.elapsed()), (Reason::DeadlineExceeded, false, 10 * MS));
    let alone = rejected(alone.await.unwrap());
    assert_eq!((alone.reason(), alone.sent(), start.elapsed()), (Reason::DeadlineExceeded, true, 50 * MS));
    let taken = rejected(taken.await.unwrap());
    assert_eq!((taken.reason(), taken.sent(), start.elapsed()), (Reason::DeadlineExceeded, true, 60 * MS));
    let past = Deadline::at(start).scope(service.clone().oneshot(3)).await;
    assert_eq!((rejected(past).reason(), backend.sizes()), (Reason::DeadlineExceeded, vec![1, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_the_latest_deadline_of_those_in_it() {
    let backend = Backend::taking(MS);
    let service = batching("latest", &backend);
    let start = Instant::now();
    let until = |request, limit: u32| {
        let service = service.clone();
        tokio::spawn(async move { Deadline::at(start + limit * MS).scope(service.oneshot(request)).await })
    };
    let mut calls = vec![until(0, 100), until(1, 100)];
    settle().await;
    calls.extend([until(2, 100), until(3, 300), until(4, 200)]);
    settle().await;
    all(calls).await;
    let mut calls = vec![until(2, 100), until(3, 300)];
    settle().await;
    calls.extend([until(5, 100), call(&service, 6)]);
    all(calls).await;
    let deadlines = backend.deadlines();
    let at = |limit: u32| Some(start + limit * MS);
    assert_eq!(deadlines, [at(100), at(100), at(300), at(300), None], "{:?}", backend.batches());
}

#[tokio::test(start_paused = true)]
async fn whose_deadline_has_passed_is_not_sent_though_nobody_polled_him() {
    let backend = Backend::taking(10 * MS);
    let service = batching("unpolled", &backend);
    let before = call_in_turn(&service, [0, 1]).await;
    let mut late = pin!(service.clone().oneshot(2));
    let scoped = Deadline::after(5 * MS).scope(late.as_mut());
    let mut scoped = pin!(scoped);
    assert!(scoped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let others = call_in_turn(&service, [3]).await;
    all(before).await;
    all(others).await;
    assert_eq!(backend.batches(), [[0], [1], [3]]);
    let late = rejected(scoped.await);
    assert_eq!((late.reason(), late.sent()), (Reason::DeadlineExceeded, false));
}

#[tokio::test(start_paused = true)]
async fn nobody_can_hold_up_others_by_not_polling() {
    let backend = Backend::taking(MS);
    let service = batching("held_up", &backend);
    let mut cx = Context::from_waker(Waker::noop());
    let mut held: Vec<_> = (0..3).map(|request| Box::pin(service.clone().oneshot(request))).collect();
    for call in &mut held {
        assert!(call.as_mut().poll(&mut cx).is_pending());
    }
    assert_eq!(service.clone().oneshot(3).await, Ok(30));
    assert_eq!(service.clone().oneshot(4).await, Ok(40));
    for (request, call) in (0..).zip(held) {
        assert_eq!(call.await, Ok(request * 10));
    }
}

#[tokio::test(start_paused = true)]
async fn closing_drains() {
    let backend = Backend::taking(MS);
    let service = batching("closing", &backend);
    let calls = call_in_turn(&service, 0..10).await;
    let handle = service.batch();
    let closing = tokio::spawn(async move { handle.close().await });
    settle().await;
    let refused = rejected(service.clone().oneshot(11).await);
    assert_eq!((refused.reason(), refused.sent()), (Reason::Closed, false));
    closing.await.unwrap();
    assert_eq!(backend.ended(), 3);
    assert!(all(calls).await.into_iter().all(|result| result.is_ok()));
    // Once more, at once.
    service.batch().close().await;
}

#[tokio::test(start_paused = true)]
async fn closing_ends_a_linger_and_waits_for_a_lone_caller() {
    let backend = Backend::taking(MS);
    let service = layer("closing_linger").linger(HOUR).layer(backend.clone());
    let waits = call(&service, 1);
    settle().await;
    let start = Instant::now();
    service.batch().close().await;
    assert_eq!((start.elapsed(), waits.await.unwrap()), (MS, Ok(10)));

    let service = batching("closing_alone", &backend);
    let alone = call(&service, 1);
    settle().await;
    service.batch().close().await;
    assert_eq!(backend.ended(), 2);
    assert_eq!(alone.await.unwrap(), Ok(10));
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_ends_without_any_handle() {
    let backend = Backend::taking(MS);
    let service = batching("no_handle", &backend);
    let calls = call_in_turn(&service, 0..10).await;
    drop(service);
    assert!(all(calls).await.into_iter().all(|result| result.is_ok()));
}

#[test]
fn a_runtime_that_ends_keeps_nobody_waiting() {
    let backend = Backend::taking(HOUR);
    let service = batching("runtime_ends", &backend);
    let runtime = || Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (first, second) = (runtime(), runtime());
    // One alone, one in a batch, by a worker on the first runtime.
    let begun = first.block_on(call_in_turn(&service, [0, 1]));
    let calls = second.block_on(call_in_turn(&service, [2, 3]));
    drop(first);
    drop(begun);
    second.block_on(async {
        for result in timeout(HOUR, all(calls)).await.expect("they are told") {
            let rejected = rejected(result);
            assert_eq!((rejected.reason(), rejected.sent()), (Reason::BatchFailed, false));
        }
        assert_eq!(timeout(2 * HOUR, service.oneshot(4)).await.unwrap(), Ok(40));
    });
}

#[test]
fn without_a_runtime_it_panics_and_leaves_nothing() {
    let gate = Arc::new(Notify::new());
    let opens = gate.clone();
    let service = layer("no_runtime").layer(service_fn(move |requests: Vec<u32>| {
        let gate = gate.clone();
        async move {
            gate.notified().await;
            Ok(requests.into_iter().map(Ok).collect())
        }
    }));
    let mut cx = Context::from_waker(Waker::noop());
    let mut alone = Box::pin(service.clone().oneshot(1));
    assert!(alone.as_mut().poll(&mut cx).is_pending());
    let mut second = service.clone();
    let second = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut call = pin!(second.call(2));
        call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }));
    assert!(second.is_err());
    assert_eq!(service.batch().stats().waiting, 0);
    opens.notify_one();
    assert!(alone.as_mut().poll(&mut cx).is_ready());
    let runtime = Builder::new_current_thread().build().unwrap();
    opens.notify_one();
    assert_eq!(runtime.block_on(service.oneshot(3)), Ok(3));
}

/// Never ready; one of them panics when it is dropped, where it is told to.
#[derive(Clone)]
struct Fragile(Arc<AtomicBool>);

impl Drop for Fragile {
    fn drop(&mut self) {
        assert!(!self.0.swap(false, Relaxed), "it is dropped");
    }
}

impl Service<Vec<u32>> for Fragile {
    type Response = Vec<Result<u32, support::Failure>>;
    type Error = support::Failure;
    type Future = std::future::Pending<support::Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), support::Failure>> {
        Poll::Pending
    }

    fn call(&mut self, _: Vec<u32>) -> Self::Future {
        unreachable!("it is never ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_panics_when_it_is_let_go_harms_nobody() {
    let panics = Arc::new(AtomicBool::new(false));
    let service = layer("let_go").layer(Fragile(panics.clone()));
    let calls = call_in_turn(&service, 0..2).await;
    panics.store(true, Relaxed);
    calls[1].abort();
    settle().await;
    assert!(!panics.load(Relaxed));
    calls[0].abort();
    settle().await;
    timeout(MS, service.batch().close()).await.expect("nothing is left to do");
}

#[test]
fn a_request_that_panics_when_it_is_dropped_keeps_nobody_waiting() {
    struct Bomb(u32);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(self.0 != 13 || std::thread::panicking(), "it is dropped");
        }
    }
    let layer = buttress_batch::BatchLayer::<Bomb, u32, support::Failure>::new("bomb");
    let service = layer.layer(service_fn(async |_: Vec<Bomb>| {
        let answer: support::Answer = std::future::pending().await;
        answer
    }));
    let calls = async |requests: [u32; 2]| {
        let mut calls = Vec::new();
        for request in requests {
            calls.push(tokio::spawn(service.clone().oneshot(Bomb(request))));
            settle().await;
        }
        calls
    };
    let runtime = || Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (first, second) = (runtime(), runtime());
    let begun = first.block_on(calls([0, 1]));
    let waiting = second.block_on(calls([13, 14]));
    drop(first);
    drop(begun);
    for result in second.block_on(async { timeout(HOUR, all(waiting)).await.expect("they are told") }) {
        assert_eq!(rejected(result).reason(), Reason::BatchFailed);
    }
}

#[test]
fn a_waker_that_owns_another_call_may_be_the_last() {
    struct Owner(#[expect(dead_code, reason = "it is dropped")] Mutex<Box<dyn Send>>);
    impl Wake for Owner {
        fn wake(self: Arc<Self>) {}
    }
    // On a thread of its own: that one waits for itself where it fails.
    let (send, receive) = mpsc::channel();
    std::thread::spawn(move || {
        Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let service = batching("owner", &Backend::taking(HOUR));
            let _begun = call_in_turn(&service, [0, 1]).await;
            let mut noop = Context::from_waker(Waker::noop());
            let mut owned = Box::pin(service.clone().oneshot(2));
            assert!(owned.as_mut().poll(&mut noop).is_pending());
            let owner = Waker::from(Arc::new(Owner(Mutex::new(Box::new(owned)))));
            let mut moved = pin!(service.clone().oneshot(3));
            assert!(moved.as_mut().poll(&mut Context::from_waker(&owner)).is_pending());
            drop(owner);
            // Another task polls it now, and the first is gone with its last waker.
            assert!(moved.as_mut().poll(&mut noop).is_pending());
            send.send(service.batch().stats().waiting).unwrap();
        });
    });
    assert_eq!(receive.recv_timeout(Duration::from_secs(20)), Ok(1));
}

#[tokio::test]
async fn a_deadline_is_kept_beside_a_service_that_is_always_busy() {
    let service = layer("busy").layer(service_fn(async |requests: Vec<u32>| {
        while !requests.is_empty() {
            tokio::task::consume_budget().await;
        }
        Ok(Vec::new())
    }));
    let call = tokio::spawn(Deadline::after(20 * MS).scope(service.oneshot(1)));
    let late = rejected(timeout(Duration::from_secs(20), call).await.expect("it ends").unwrap());
    assert_eq!((late.reason(), late.sent()), (Reason::DeadlineExceeded, true));
}
