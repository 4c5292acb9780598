//! What a retry owes to its caller, in virtual time.

use std::{
    collections::VecDeque,
    future::{Ready, ready},
    io,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Backoff, BoxError, Deadline, Jitter, Origin, Outcome, Reason, Rejectable, Rejected};
use buttress_retry::{Budget, RetryLayer};
use buttress_timeout::TimeoutLayer;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

/// 100 ms, 200 ms, ... at most a second.
fn steady() -> Backoff {
    Backoff::exponential(100 * MS, 1000 * MS).unwrap().with_jitter(Jitter::None)
}

fn layer(name: &str) -> RetryLayer {
    RetryLayer::new(name).backoff(steady())
}

/// A backend that gives these results one after the other, and notes when it was called.
#[derive(Debug)]
struct Script<E = io::Error>(Arc<Mutex<Played<E>>>);

#[derive(Debug)]
struct Played<E> {
    results: VecDeque<Result<u32, E>>,
    calls: Vec<Instant>,
}

impl<E> Clone for Script<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Script<E> {
    fn of(results: impl IntoIterator<Item = Result<u32, E>>) -> Self {
        Self(Arc::new(Mutex::new(Played { results: results.into_iter().collect(), calls: Vec::new() })))
    }

    fn failing(times: usize) -> Self
    where
        E: From<io::Error>,
    {
        let failure = |_| Err(io::Error::other("it fails").into());
        Self::of((0..times).map(failure).chain([Ok(7)]))
    }

    fn next(&self) -> Result<u32, E> {
        let mut played = self.0.lock().unwrap();
        played.calls.push(Instant::now());
        played.results.pop_front().expect("a result for each attempt")
    }

    /// Milliseconds from `start` to each attempt.
    fn attempts(&self, start: Instant) -> Vec<u128> {
        self.0.lock().unwrap().calls.iter().map(|at| (*at - start).as_millis()).collect()
    }
}

impl<Req, E> Service<Req> for Script<E> {
    type Response = u32;
    type Error = E;
    type Future = Ready<Result<u32, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Self::Future {
        ready(self.next())
    }
}

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
async fn the_default_waits_with_full_jitter() {
    fastrand::seed(1);
    let mut first = Vec::new();
    for _ in 0..50 {
        let (script, start) = (Script::<io::Error>::failing(2), Instant::now());
        RetryLayer::new("full_jitter").layer(script.clone()).oneshot(()).await.unwrap();
        let attempts = script.attempts(start);
        // The timer's millisecond on top.
        assert!(attempts[1] <= 101 && attempts[2] - attempts[1] <= 201, "{attempts:?}");
        first.push(attempts[1]);
    }
    assert!(first.iter().any(|ms| *ms < 30) && first.iter().any(|ms| *ms > 70), "{first:?}");
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

/// Throttled for as many milliseconds as the error says.
fn throttled(result: &Result<u32, Busy>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(Busy::For(ms)) => Outcome::Throttled(ms.map(|ms| ms * MS)),
        Err(Busy::Rejected(rejected)) => rejected.outcome(),
    }
}

#[derive(Debug)]
enum Busy {
    For(Option<u32>),
    Rejected(Rejected),
}

impl From<Rejected> for Busy {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Busy {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_is_waited_for_besides_the_backoff() {
    let script = Script::of([Err(Busy::For(Some(400))), Err(Busy::For(None)), Ok(1)]);
    let start = Instant::now();
    layer("hint").classify(throttled).layer(script.clone()).oneshot(()).await.unwrap();
    assert_eq!(script.attempts(start), [0, 500, 700]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_beyond_the_backoffs_cap_is_not_slept() {
    let script = Script::of([Err(Busy::For(Some(1001)))]);
    let start = Instant::now();
    let error = layer("long_hint").classify(throttled).layer(script).oneshot(()).await.unwrap_err();
    assert!(matches!(error, Busy::For(Some(1001))));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_rejection_that_was_sent_is_repeated_after_its_hint() {
    let failed = Origin::new("batch", "orders").reject(Reason::BatchFailed).after_sending();
    let script = Script::of([Err(failed.with_retry_after(300 * MS).into()), Ok::<_, io::Error>(1)]);
    let start = Instant::now();
    layer("sent").layer(script.clone()).oneshot(()).await.unwrap();
    assert_eq!(script.attempts(start), [0, 400]);
}

#[tokio::test(start_paused = true)]
async fn never_sleeps_past_the_deadline() {
    for (limit, attempts) in [(50, &[0][..]), (100, &[0]), (101, &[0, 100]), (301, &[0, 100, 300])] {
        let (script, start) = (Script::<io::Error>::failing(9), Instant::now());
        let call = layer("deadline").layer(script.clone()).oneshot(());
        let error = Deadline::after(limit * MS).scope(call).await.unwrap_err();
        assert_eq!(error.to_string(), "it fails", "its own error says more than a timeout");
        assert_eq!(script.attempts(start), attempts, "within {limit} ms");
        assert_eq!(start.elapsed().as_millis(), *attempts.last().unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn stands_between_two_timeouts() {
    let hangs = AtomicUsize::new(0);
    let mut service = ServiceBuilder::new()
        .layer(TimeoutLayer::new(1000 * MS).named("total"))
        .layer(layer("between"))
        .layer(TimeoutLayer::new(300 * MS).named("attempt"))
        .service(service_fn(|()| async {
            hangs.fetch_add(1, Relaxed);
            sleep(3_600_000 * MS).await;
            Ok::<_, io::Error>(())
        }));
    let start = Instant::now();
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    // 300, wait 100, 300, wait 200, and the total is up in the third attempt.
    let rejected = error.rejected().unwrap();
    assert_eq!((rejected.name(), rejected.reason()), ("attempt", Reason::DeadlineExceeded));
    assert_eq!((start.elapsed(), hangs.load(Relaxed)), (1000 * MS, 3));
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
    let layer = RetryLayer::new("shared_budget").budget(Budget::new(0.0, 3, Duration::from_secs(1)).unwrap());
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

#[tokio::test(start_paused = true)]
async fn regression_17_what_failed_is_dropped_before_the_wait() {
    /// A pooled connection, in the response that failed and in the future that made it.
    struct Response(u32, #[expect(dead_code, reason = "held")] Arc<()>);
    let connection = Arc::new(());
    let calls = AtomicUsize::new(0);
    let inner = service_fn(|()| {
        let held = Arc::clone(&connection);
        let status = if calls.fetch_add(1, Relaxed) == 0 { 503 } else { 200 };
        async move {
            let _held_by_the_future = Arc::clone(&held);
            Ok::<_, BoxError>(Response(status, held))
        }
    });
    let by_status = |result: &Result<Response, BoxError>| match result {
        Ok(Response(200, _)) => Outcome::Success,
        _ => Outcome::Failure,
    };
    let call = layer("dropped_before_the_wait").classify(by_status).layer(inner).oneshot(());
    let watch = async {
        sleep(50 * MS).await;
        (calls.load(Relaxed), Arc::strong_count(&connection))
    };
    let (response, during_the_wait) = tokio::join!(call, watch);
    assert_eq!(response.unwrap().0, 200);
    assert_eq!(during_the_wait, (1, 1), "nothing but the test holds it");
}

#[tokio::test(start_paused = true)]
async fn regression_20_a_refusal_on_this_side_spends_nothing() {
    let breaker = Origin::new("circuit-breaker", "regression_20");
    // Even where the classifier takes everything for a failure.
    let all = |result: &io::Result<u32>| if result.is_ok() { Outcome::Success } else { Outcome::Failure };
    let layer = layer("regression_20").classify(all);
    let budget = layer.retrier().budget().clone();
    let start = Instant::now();
    let calls = AtomicUsize::new(0);
    let service = layer.layer(service_fn(|()| {
        calls.fetch_add(1, Relaxed);
        ready(Err(breaker.reject(Reason::CircuitOpen).with_retry_after(MS).into()))
    }));
    for _ in 0..500 {
        let error = service.clone().oneshot(()).await.unwrap_err();
        assert_eq!(error.rejected().unwrap().reason(), Reason::CircuitOpen);
    }
    assert_eq!((calls.load(Relaxed), start.elapsed()), (500, Duration::ZERO));
    let floor_and_a_fifth = 100 + 500 / 5;
    assert_eq!(budget.available(Instant::now()), Some(floor_and_a_fifth));
}

/// Requests and backend calls at 50 % failures, 1000 requests a second.
async fn storm(layer: RetryLayer, requests: u32) -> f64 {
    let calls = Arc::new(AtomicUsize::new(0));
    let failing = fastrand::Rng::with_seed(7);
    let inner = {
        let (calls, failing) = (Arc::clone(&calls), Arc::new(Mutex::new(failing)));
        service_fn(move |()| {
            calls.fetch_add(1, Relaxed);
            ready(if failing.lock().unwrap().bool() { Ok(()) } else { Err(io::Error::other("it fails")) })
        })
    };
    let service = layer.layer(inner);
    let mut running = Vec::new();
    for _ in 0..requests {
        running.push(tokio::spawn(service.clone().oneshot(())));
        sleep(MS).await;
    }
    for call in running {
        let _ = call.await.unwrap();
    }
    calls.load(Relaxed) as f64 / f64::from(requests)
}

#[tokio::test(start_paused = true)]
async fn regression_16_a_budget_bounds_the_load_that_retries_add() {
    const REQUESTS: u32 = 20_000;
    let without = storm(layer("storm_without").budget(Budget::unlimited()), REQUESTS).await;
    assert!((1.7..1.8).contains(&without), "1 + 1/2 + 1/4 calls a request, was {without}");

    let start = Instant::now();
    let with = storm(layer("storm_with"), REQUESTS).await;
    let floor = 10.0 * (start.elapsed().as_secs_f64() + 10.0) / f64::from(REQUESTS);
    assert!(with <= 1.2 + floor, "{with} calls a request");
    assert!(with >= 1.19, "it uses what it has, was {with}");
}
