//! How long a retry waits, and when it does not, in virtual time.

mod script;

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Deadline, Origin, Outcome, Reason, Rejectable, Rejected};
use buttress_retry::RetryLayer;
use buttress_timeout::TimeoutLayer;
use script::{MS, Script, layer};
use tokio::time::{Instant, sleep};
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
