//! Defects of the field that must not come back, in virtual time.

mod script;

use buttress_core::{Backoff, Observe};
use buttress_hedge::{Budget, CloneRequest, HedgeLayer};
use buttress_retry::RetryLayer;
use script::{
    End::{Answers, Broken, NotFound},
    Failure, MS, SECOND, Script, figure, layer,
};
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn regression_18_a_permanent_error_of_the_first_attempt_is_returned_at_once() {
    let (script, start) = (Script::of([(5, NotFound)]), Instant::now());
    let service = layer("permanent", 1000).attempts(3).layer(script.clone());
    assert_eq!(service.oneshot(()).await, Err(Failure::NotFound(0)));
    assert_eq!((script.started(), start.elapsed()), (vec![0], 5 * MS), "asked once");

    // And while a hedge runs that would take for ever.
    let (script, start) = (Script::of([(1500, NotFound), (1_000_000, Answers)]), Instant::now());
    let service = layer("permanent", 1000).attempts(2).layer(script.clone());
    assert_eq!(service.oneshot(()).await, Err(Failure::NotFound(0)));
    assert_eq!((start.elapsed(), script.running()), (1500 * MS, 0));
}

/// A backend that has become slow for good: every call is late, at 100 calls a second.
#[tokio::test(start_paused = true)]
async fn regression_18_the_load_that_hedges_add_has_a_budget() {
    const CALLS: u32 = 10_000;
    let slow = || {
        service_fn(|()| async {
            sleep(500 * MS).await;
            Ok::<_, Failure>(0)
        })
    };
    let hedges = async |layer: HedgeLayer<CloneRequest>| {
        let service = layer.layer(slow());
        let mut running = Vec::new();
        for _ in 0..CALLS {
            running.push(tokio::spawn(service.clone().oneshot(())));
            sleep(10 * MS).await;
        }
        for call in running {
            call.await.unwrap().unwrap();
        }
        let hedger = layer.hedger();
        assert!(figure(&hedger, "budget_exhausted") + figure(&hedger, "hedges") >= f64::from(CALLS));
        figure(&hedger, "hedges") / f64::from(CALLS)
    };
    let fixed = || HedgeLayer::new("slow_for_good", CloneRequest).attempts(2).delay(100 * MS);
    let without = hedges(fixed().budget(Budget::unlimited())).await;
    assert!((without - 1.0).abs() < 1e-9, "every call, was {without}");
    let with = hedges(fixed()).await;
    // A tenth, and the floor: one a second, of a hundred calls.
    assert!((0.10..=0.1115).contains(&with), "{with}");
}

#[tokio::test(start_paused = true)]
async fn regression_18_an_exhausted_budget_cancels_nothing_that_is_in_flight() {
    let budget = Budget::try_new(0.0, 1, SECOND).unwrap();
    let layer = layer("exhausted", 100).attempts(3).budget(budget.clone());

    // The one hedge that is granted runs on, and wins, although the budget refuses the next one.
    let script = Script::of([(1000, Answers), (300, Answers)]);
    assert_eq!(layer.layer(script.clone()).oneshot(()).await, Ok(1));
    assert_eq!(script.started(), [0, 100]);

    // And so does a first attempt that gets no hedge at all.
    assert!(!budget.withdraw(Instant::now()));
    let (script, start) = (Script::of([(900, Answers)]), Instant::now());
    assert_eq!(layer.layer(script.clone()).oneshot(()).await, Ok(0));
    assert_eq!((script.started(), start.elapsed()), (vec![0], 900 * MS));
    assert_eq!(figure(&layer.hedger(), "budget_exhausted"), 2.0);
}

/// A retry and the hedge inside of it, at a backend that is slow and fails every call.
#[tokio::test(start_paused = true)]
async fn a_retry_and_a_hedge_keep_to_one_budget() {
    let budget = Budget::try_new(0.2, 0, 10 * SECOND).unwrap();
    let retry = RetryLayer::new("shared").backoff(Backoff::constant(50 * MS)).budget(budget.clone());
    let hedge = HedgeLayer::new("shared", CloneRequest).delay(100 * MS).budget(budget.counted_outside());
    let service =
        ServiceBuilder::new().layer(retry.clone()).layer(hedge.clone()).service(service_fn(|()| async {
            sleep(300 * MS).await;
            Err::<(), _>(Broken.result(0).unwrap_err())
        }));
    let mut running = Vec::new();
    for _ in 0..5000 {
        running.push(tokio::spawn(service.clone().oneshot(())));
        sleep(10 * MS).await;
    }
    for call in running {
        call.await.unwrap().unwrap_err();
    }
    let mut retries = 0.0;
    retry.retrier().observe(&mut |metric| {
        if let ("retries", buttress_core::Value::Counter(count)) = (metric.name, metric.value) {
            retries = count as f64;
        }
    });
    let hedges = figure(&hedge.hedger(), "hedges");
    let extra = (retries + hedges) / 5000.0;
    assert!((0.17..=0.2).contains(&extra), "{extra}");
    assert!(retries > 0.0 && hedges > 0.0, "{retries} retries, {hedges} hedges");
    assert_eq!(budget.calls(), 5000);
}
