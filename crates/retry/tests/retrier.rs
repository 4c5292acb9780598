//! The handle: functions that are no `Service`, and the figures.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use buttress_core::{Backoff, Deadline, Jitter, Metric, Observe, Origin, Outcome, Reason, Value};
use buttress_retry::{Budget, Retrier, RetryLayer};
use tokio::time::{Instant, sleep};

const MS: Duration = Duration::from_millis(1);

fn layer(name: &str) -> RetryLayer {
    let backoff = Backoff::exponential(100 * MS, 1000 * MS).unwrap().with_jitter(Jitter::None);
    RetryLayer::new(name).backoff(backoff)
}

fn failure() -> io::Error {
    io::Error::other("it fails")
}

fn counted(attempts: &AtomicU32, error: io::Error) -> io::Result<()> {
    attempts.fetch_add(1, Relaxed);
    Err(error)
}

fn figures<C: Send + Sync>(retrier: &Retrier<C>) -> Vec<(&'static str, Value)> {
    let mut seen = Vec::new();
    retrier.observe(&mut |Metric { name, value, .. }| seen.push((name, value)));
    seen
}

#[tokio::test(start_paused = true)]
async fn repeats_a_function_by_the_same_rules() {
    let retrier = layer("function").retrier();
    let start = Instant::now();
    let mut attempts = Vec::new();
    let result = retrier
        .call(|| {
            attempts.push(start.elapsed().as_millis());
            let attempt = attempts.len();
            async move {
                sleep(10 * MS).await;
                if attempt < 3 { Err(failure()) } else { Ok(attempt) }
            }
        })
        .await;
    assert_eq!(result.unwrap(), 3);
    assert_eq!(attempts, [0, 110, 320]);
}

#[tokio::test(start_paused = true)]
async fn honours_deadline_classifier_refusals_and_budget() {
    let call = async |layer: RetryLayer| {
        let attempts = AtomicU32::new(0);
        let retrier = layer.retrier();
        let result = retrier.call(async || counted(&attempts, failure())).await;
        result.unwrap_err();
        attempts.into_inner()
    };
    assert_eq!(call(layer("all")).await, 3);
    assert_eq!(Deadline::after(50 * MS).scope(call(layer("deadline"))).await, 1);
    let spent = Budget::try_new(0.0, 1, Duration::from_secs(1)).unwrap();
    assert_eq!(call(layer("budget").budget(spent)).await, 2);

    let attempts = AtomicU32::new(0);
    let ignoring = layer("classifier").classify(|_: &io::Result<()>| Outcome::Ignored).retrier();
    ignoring.call(async || counted(&attempts, failure())).await.unwrap_err();
    assert_eq!(attempts.load(Relaxed), 1);

    let limiter = Origin::new("rate-limit", "honours");
    let refused = async || counted(&attempts, limiter.reject(Reason::RateLimited).into());
    layer("refused").retrier().call(refused).await.unwrap_err();
    assert_eq!(attempts.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn can_be_spawned() {
    let retrier = layer("spawned").retrier();
    let task = tokio::spawn(async move {
        let left = AtomicU32::new(2);
        retrier
            .call(async || {
                tokio::task::yield_now().await;
                match left.fetch_sub(1, Relaxed) {
                    1 => Ok("done"),
                    _ => Err(failure()),
                }
            })
            .await
    });
    assert_eq!(task.await.unwrap().unwrap(), "done");
}

#[tokio::test(start_paused = true)]
async fn tells_why_failures_stood() {
    let budget = Budget::try_new(0.0, 3, Duration::from_secs(1)).unwrap();
    let busy = |result: &io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Outcome::Throttled(Some(Duration::from_secs(60)))
        }
        Err(_) => Outcome::Failure,
        Ok(()) => Outcome::Success,
    };
    let retrier = layer("why").retries(1).budget(budget).classify(busy).retrier();
    let fail = async || Err::<(), _>(failure());

    retrier.call(async || Ok(())).await.unwrap();
    retrier.call(fail).await.unwrap_err();
    Deadline::after(MS).scope(retrier.call(fail)).await.unwrap_err();
    retrier.call(async || Err(io::ErrorKind::WouldBlock.into())).await.unwrap_err();
    retrier.call(fail).await.unwrap_err();
    retrier.call(fail).await.unwrap_err();
    retrier.call(fail).await.unwrap_err();

    assert_eq!(retrier.origin(), Origin::new("retry", "why"));
    assert_eq!(
        figures(&retrier),
        [
            ("calls", Value::Counter(7)),
            ("retries", Value::Counter(3)),
            ("attempts_exhausted", Value::Counter(3)),
            ("budget_exhausted", Value::Counter(1)),
            ("deadline_bound", Value::Counter(1)),
            ("hint_too_long", Value::Counter(1)),
            ("available", Value::Gauge(0.0)),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_unlimited_budget_has_no_gauge() {
    let retrier = layer("unlimited").budget(Budget::unlimited()).retrier();
    retrier.clone().call(async || Ok::<_, io::Error>(())).await.unwrap();
    let figures = figures(&retrier);
    assert_eq!(figures[0], ("calls", Value::Counter(1)));
    assert!(figures.iter().all(|(name, _)| *name != "available"));
}

#[tokio::test(start_paused = true)]
async fn a_weak_handle_lives_as_long_as_the_layer_or_any_of_its_services() {
    let layer = layer("weak");
    let weak = layer.retrier().downgrade();
    assert!(weak.is_same(&layer.retrier().downgrade()), "all handles of a layer are of one state");
    let mut attempts = 0;
    let retrier = layer.retrier();
    let repeated = retrier.call(|| {
        attempts += 1;
        let result = if attempts == 1 { Err(failure()) } else { Ok(()) };
        async { result }
    });
    repeated.await.unwrap();
    drop(retrier);
    let mut retries = None;
    let mut visit = |metric: Metric| {
        if metric.name == "retries" {
            retries = Some(metric.value);
        }
    };
    weak.upgrade().expect("the layer lives").observe(&mut visit);
    assert_eq!(retries, Some(Value::Counter(1)));

    let service = tower::Layer::layer(&layer, tower::service_fn(async |(): ()| io::Result::Ok(())));
    drop(layer);
    assert!(weak.upgrade().is_some());
    drop(service);
    assert!(weak.upgrade().is_none());
}
