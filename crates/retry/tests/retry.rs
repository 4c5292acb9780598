//! What is repeated, and by which service and request, in virtual time.

mod script;

use std::{
    future::{Ready, ready},
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Backoff, Outcome};
use buttress_retry::{Budget, RetryLayer};
use script::{Script, layer};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn a_success_is_called_once() {
    let (script, start) = (Script::<io::Error>::failing(0), Instant::now());
    assert_eq!(layer("once").layer(script.clone()).oneshot(()).await.unwrap(), 7);
    assert_eq!(script.attempts(start), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_repeated_after_the_backoff() {
    let (script, start) = (Script::<io::Error>::failing(2), Instant::now());
    assert_eq!(layer("repeated").layer(script.clone()).oneshot(()).await.unwrap(), 7);
    assert_eq!(script.attempts(start), [0, 100, 300]);
}

#[tokio::test(start_paused = true)]
async fn the_last_result_stands_when_no_attempt_is_left() {
    for retries in 0..4 {
        let (script, start) = (Script::<io::Error>::failing(9), Instant::now());
        let layer = layer("no_attempt_is_left").retries(retries);
        let error = layer.layer(script.clone()).oneshot(()).await.unwrap_err();
        assert_eq!(error.to_string(), "it fails");
        assert_eq!(script.attempts(start), [0, 100, 300, 700][..=retries as usize]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_classifier_ignores_is_not_repeated() {
    let not_found = |result: &io::Result<u32>| match result {
        Ok(_) => Outcome::Success,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::Ignored,
        Err(_) => Outcome::Failure,
    };
    let script =
        Script::of([Err(io::ErrorKind::TimedOut.into()), Err(io::ErrorKind::NotFound.into()), Ok(1)]);
    let start = Instant::now();
    let service = layer("ignored").classify(not_found).layer(script.clone());
    assert_eq!(service.oneshot(()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(script.attempts(start).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_can_be_a_failure_and_each_is_judged_once() {
    let judged = AtomicUsize::new(0);
    let by_status = |result: &io::Result<u32>| {
        judged.fetch_add(1, Relaxed);
        if matches!(result, Ok(200)) { Outcome::Success } else { Outcome::Failure }
    };
    let script = Script::of([Ok(500), Ok(502), Ok(200)]);
    let service = layer("by_status").classify(by_status).layer(script);
    assert_eq!(service.oneshot(()).await.unwrap(), 200);
    assert_eq!(judged.load(Relaxed), 3);
}

/// Counts its clones.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Clone for Counted {
    fn clone(&self) -> Self {
        self.0.fetch_add(1, Relaxed);
        Self(Arc::clone(&self.0))
    }
}

#[tokio::test(start_paused = true)]
async fn the_request_is_not_cloned_for_the_last_attempt() {
    for (retries, failures, clones) in [(0, 9, 0), (2, 0, 1), (2, 1, 2), (2, 9, 2), (5, 9, 5)] {
        let count = Arc::new(AtomicUsize::new(0));
        let service = layer("clones").retries(retries).layer(Script::<io::Error>::failing(failures));
        let _ = service.oneshot(Counted(Arc::clone(&count))).await;
        assert_eq!(count.load(Relaxed), clones, "{retries} retries, {failures} failures");
    }
}

/// Counts the services that it was cloned to.
#[derive(Debug, Clone)]
struct CountedService(Counted, Script);

impl Service<Option<u32>> for CountedService {
    type Response = u32;
    type Error = io::Error;
    type Future = Ready<io::Result<u32>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Option<u32>) -> Self::Future {
        ready(self.1.next())
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_repeated_is_called_once_and_nothing_is_cloned() {
    let clones = Arc::new(AtomicUsize::new(0));
    let (script, start) = (Script::failing(1), Instant::now());
    let inner = CountedService(Counted(Arc::clone(&clones)), script.clone());
    let only_some = |request: &Option<u32>| request.map(Some);
    let layer = layer("cannot_be_repeated").requests(only_some);
    layer.layer(inner.clone()).oneshot(None).await.unwrap_err();
    assert_eq!((script.attempts(start).len(), clones.load(Relaxed)), (1, 1), "our own clone");

    let script = Script::failing(1);
    layer.layer(CountedService(inner.0, script.clone())).oneshot(Some(1)).await.unwrap();
    assert_eq!(script.attempts(start).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_turns_out_useless_is_not_sent() {
    #[derive(Clone)]
    struct Body;
    impl buttress_retry::ReplayRequest<u32> for Body {
        fn replay(&self, request: &u32) -> Option<u32> {
            Some(*request)
        }
        fn can_replay(&self, kept: &u32) -> bool {
            *kept < 64
        }
    }
    for (request, attempts) in [(63, 3), (64, 1)] {
        let (script, start) = (Script::<io::Error>::failing(9), Instant::now());
        let layer = layer("useless").requests(Body);
        let budget = layer.retrier().budget().clone();
        layer.layer(script.clone()).oneshot(request).await.unwrap_err();
        assert_eq!(script.attempts(start).len(), attempts);
        let spent = 100 - budget.available(Instant::now()).unwrap();
        assert_eq!(spent, attempts as u64 - 1, "what is not made costs nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn the_budget_is_shared_by_services_clones_and_handles() {
    let layer =
        RetryLayer::new("shared_budget").budget(Budget::try_new(0.0, 3, Duration::from_secs(1)).unwrap());
    let script = Script::<io::Error>::failing(100);
    let (first, second) = (layer.layer(script.clone()), layer.layer(script.clone()));
    let start = Instant::now();
    first.clone().oneshot(()).await.unwrap_err();
    second.oneshot(()).await.unwrap_err();
    assert_eq!(script.attempts(start).len(), 2 + 3, "three retries for all");
    layer.retrier().call(async || script.next()).await.unwrap_err();
    assert_eq!(script.attempts(start).len(), 6);

    let other = RetryLayer::new("the_same_budget").budget(layer.retrier().budget().clone());
    other.layer(script.clone()).oneshot(()).await.unwrap_err();
    assert_eq!(script.attempts(start).len(), 7);

    sleep(Duration::from_secs(2)).await;
    first.oneshot(()).await.unwrap_err();
    assert_eq!(script.attempts(start).len(), 10, "it comes back");
}

/// Fails all its calls, and its readiness from the second service on.
#[derive(Debug)]
struct ReadyOnce(bool);

impl Clone for ReadyOnce {
    fn clone(&self) -> Self {
        Self(false)
    }
}

impl Service<()> for ReadyOnce {
    type Response = u32;
    type Error = io::Error;
    type Future = Ready<io::Result<u32>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(if self.0 { Ok(()) } else { Err(io::Error::other("never ready again")) })
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Err(io::Error::other("it fails")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_readiness_that_fails_ends_the_call() {
    let error = layer("ready_once").layer(ReadyOnce(true)).oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "never ready again");
}

#[tokio::test(start_paused = true)]
async fn asks_for_neither_send_nor_static() {
    let (text, count) = (String::from("borrowed"), Rc::new(std::cell::Cell::new(0)));
    let inner = service_fn(async |word: &str| {
        count.set(count.get() + 1);
        if count.get() < 3 { Err(io::Error::other("it fails")) } else { Ok(word.len()) }
    });
    assert_eq!(layer("lonely").layer(inner).oneshot(text.as_str()).await.unwrap(), 8);
}

#[tokio::test(start_paused = true)]
async fn no_pause_where_the_backoff_says_none() {
    let (script, start) = (Script::<io::Error>::failing(2), Instant::now());
    let layer = RetryLayer::new("no_pause").backoff(Backoff::constant(Duration::ZERO));
    layer.layer(script.clone()).oneshot(()).await.unwrap();
    assert_eq!(script.attempts(start), [0, 0, 0]);
}
