//! How long a retry waits, and when it does not, in virtual time.

mod script;

use std::{
    future::{Ready, ready},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Backoff, Deadline, Observe, Origin, Outcome, Reason, Rejectable, Rejected};
use buttress_retry::{Budget, RetryLayer};
use buttress_timeout::TimeoutLayer;
use script::{MS, Script, layer};
use tokio::time::{Instant, Sleep, advance, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

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
        .layer(TimeoutLayer::new(1000 * MS).name("total"))
        .layer(layer("between"))
        .layer(TimeoutLayer::new(300 * MS).name("attempt"))
        .service(service_fn(|()| async {
            hangs.fetch_add(1, Relaxed);
            sleep(3_600_000 * MS).await;
            Ok::<_, io::Error>(())
        }));
    let start = Instant::now();
    let error = service.ready().await.unwrap().call(()).await.unwrap_err();
    // 300, wait 100, 300, wait 200, and the total is up in the third attempt.
    let rejected = error.rejected().unwrap();
    assert_eq!((rejected.name(), rejected.reason()), ("total", Reason::TimedOut));
    assert_eq!((start.elapsed(), hangs.load(Relaxed)), (1000 * MS, 3));
}

/// Fails in turn with these: sent or not, by that reason.
async fn in_turn(errors: &'static [(Reason, bool)]) -> Rejected {
    let calls = AtomicUsize::new(0);
    let service = layer("in_turn").layer(service_fn(|()| {
        let (reason, sent) = errors[calls.fetch_add(1, Relaxed)];
        let rejected = Origin::new("inner", "in_turn").reject(reason);
        async move { Err::<(), io::Error>(if sent { rejected.after_sending() } else { rejected }.into()) }
    }));
    let rejected = *service.oneshot(()).await.unwrap_err().rejected().unwrap();
    assert_eq!(calls.load(Relaxed), errors.len());
    rejected
}

#[tokio::test(start_paused = true)]
async fn the_last_result_speaks_for_the_attempts_before() {
    use Reason::{CircuitOpen, TimedOut};
    assert!(
        in_turn(&[(TimedOut, true), (CircuitOpen, false)]).await.sent(),
        "the first may have been carried out"
    );
    assert!(!in_turn(&[(TimedOut, false), (CircuitOpen, false)]).await.sent());
    assert!(!in_turn(&[(CircuitOpen, false)]).await.sent());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_timed_out_before_it_was_sent_is_repeated() {
    use Reason::TimedOut;
    let last = in_turn(&[(TimedOut, false), (TimedOut, false), (TimedOut, false)]).await;
    assert_eq!((last.reason(), last.sent()), (TimedOut, false));
}

/// Fails every call; a clone of it is ready only after a time.
struct SlowToReady {
    clone_after: Duration,
    wait: Option<Pin<Box<Sleep>>>,
    calls: Arc<AtomicUsize>,
}

impl Clone for SlowToReady {
    fn clone(&self) -> Self {
        let wait = Some(Box::pin(sleep(self.clone_after)));
        Self { clone_after: self.clone_after, wait, calls: Arc::clone(&self.calls) }
    }
}

impl Service<()> for SlowToReady {
    type Response = ();
    type Error = io::Error;
    type Future = Ready<io::Result<()>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wait.as_mut().map_or(Poll::Ready(Ok(())), |wait| wait.as_mut().poll(cx).map(Ok))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.calls.fetch_add(1, Relaxed);
        ready(Err(io::Error::other("it fails")))
    }
}

fn slow_to_ready(seconds: u64) -> SlowToReady {
    SlowToReady { clone_after: Duration::from_secs(seconds), wait: None, calls: Arc::default() }
}

#[tokio::test(start_paused = true)]
async fn a_readiness_is_not_awaited_past_the_deadline() {
    let retry = layer("slow_to_ready").retries(1);
    for (limit, calls) in [(1000, 1), (4999, 1), (5001, 2)] {
        let (service, start) = (slow_to_ready(5), Instant::now());
        let attempts = Arc::clone(&service.calls);
        let mut service = retry.layer(service);
        let call = async { service.ready().await?.call(()).await };
        let error = Deadline::after(limit * MS).scope(call).await.unwrap_err();
        assert_eq!(attempts.load(Relaxed), calls, "within {limit} ms");
        if calls == 1 {
            let rejected = error.rejected().unwrap();
            assert_eq!((rejected.layer(), rejected.reason()), ("retry", Reason::DeadlineExceeded));
            assert!(rejected.sent(), "the first attempt may have been carried out");
            assert_eq!(start.elapsed(), limit * MS);
        } else {
            assert_eq!((error.to_string().as_str(), start.elapsed()), ("it fails", 5000 * MS));
        }
    }
    let mut rejections = 0;
    retry.retrier().observe(&mut |metric| rejections += u32::from(metric.name == "rejections"));
    assert_eq!(rejections, 1);
}

/// Also one that was moved under it while it waited, and not one that was moved out of it.
#[tokio::test(start_paused = true)]
async fn the_deadline_that_surrounds_the_wait_for_readiness_holds() {
    let first_of = |first: u32, then: Option<u32>| async move {
        let (service, start) = (slow_to_ready(5), Instant::now());
        let mut service = layer("moved").retries(1).layer(service);
        let mut call = Box::pin(service.ready().await.unwrap().call(()));
        let poll_once = tokio::time::timeout(200 * MS, &mut call);
        Deadline::at(start + first * MS).scope(poll_once).await.unwrap_err();
        match then {
            Some(then) => Deadline::at(start + then * MS).scope(call).await.unwrap_err(),
            None => call.await.unwrap_err(),
        };
        start.elapsed()
    };
    assert_eq!(first_of(2000, Some(1000)).await, 1000 * MS);
    assert_eq!(first_of(1000, Some(2000)).await, 2000 * MS);
    assert_eq!(first_of(1000, None).await, 5000 * MS);
}

/// The clock jumps over the deadline while the call sleeps.
#[tokio::test(start_paused = true)]
async fn no_attempt_begins_after_the_deadline_when_the_timer_is_late() {
    let retry = layer("late_timer");
    let calls = AtomicUsize::new(0);
    let attempt = || {
        calls.fetch_add(1, Relaxed);
        ready(Err::<(), _>(io::Error::other("it fails")))
    };
    let service = retry.layer(service_fn(|()| attempt()));
    let stalled = async {
        // Polled after the call, which sleeps 100 ms by then.
        advance(Duration::from_secs(9)).await;
    };
    let call = Deadline::after(1000 * MS).scope(service.oneshot(()));
    let error = tokio::join!(call, stalled).0.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.sent()), Some(true));
    assert_eq!(calls.load(Relaxed), 1);

    let retrier = retry.retrier();
    let call = Deadline::after(1000 * MS).scope(retrier.call(attempt));
    let error = tokio::join!(call, advance(Duration::from_secs(9))).0.unwrap_err();
    assert_eq!(error.rejected().map(|rejected| rejected.sent()), Some(true));
    assert_eq!(calls.load(Relaxed), 2);
}

#[tokio::test]
async fn retries_without_a_wait_leave_time_for_others() {
    let retry =
        layer("no_wait").retries(1000).budget(Budget::unlimited()).backoff(Backoff::constant(Duration::ZERO));
    let calls = AtomicUsize::new(0);
    let attempt = || {
        calls.fetch_add(1, Relaxed);
        ready(Err::<(), _>(io::Error::other("it fails")))
    };
    // Each poll makes one attempt.
    let service = retry.layer(service_fn(|()| attempt()));
    let mut call = Box::pin(service.oneshot(()));
    for polls in 1..=1000 {
        let polled = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        assert_eq!(calls.load(Relaxed), polls);
    }
    call.await.unwrap_err();

    calls.store(0, Relaxed);
    let retrier = retry.retrier();
    let mut call = Box::pin(retrier.call(attempt));
    for polls in 1..=1000 {
        let polled = std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        assert!(polled.is_pending());
        assert_eq!(calls.load(Relaxed), polls);
    }
    call.await.unwrap_err();
    assert_eq!(calls.load(Relaxed), 1001);
}
