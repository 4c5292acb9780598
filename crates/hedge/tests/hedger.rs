//! The handle: functions that are no `Service`, and the figures.

mod script;

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use buttress_core::{Deadline, Metric, Observe, Origin, Outcome, Value};
use buttress_hedge::{Budget, CloneRequest, HedgeLayer};
use script::{
    End::{Answers, Broken, NotFound},
    Failure, MS, SECOND, Script, judge,
};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn hedges_a_function_by_the_same_rules() {
    let layer = HedgeLayer::new("function", CloneRequest).delay(100 * MS).classify(judge::<usize>);
    let call = async |most: u32, attempts: &[(u32, script::End)]| {
        let (script, start) = (Script::of(attempts.iter().copied()), Instant::now());
        let hedger = layer.clone().attempts(most).hedger();
        let result = hedger.call(|| script.attempt()).await;
        (result, script.started(), start.elapsed().as_millis())
    };
    assert_eq!(call(2, &[(50, Answers)]).await, (Ok(0), vec![0], 50));
    assert_eq!(call(2, &[(1000, Answers), (50, Answers)]).await, (Ok(1), vec![0, 100], 150));
    assert_eq!(
        call(3, &[(1000, Broken), (500, Broken), (50, Answers)]).await,
        (Ok(2), vec![0, 100, 200], 250)
    );
    assert_eq!(call(1, &[(1000, Answers)]).await, (Ok(0), vec![0], 1000));
    assert_eq!(call(2, &[(150, NotFound), (1000, Answers)]).await.0, Err(Failure::NotFound(0)));
    let late = Deadline::after(90 * MS).scope(call(2, &[(1000, Answers)])).await;
    assert_eq!(late, (Ok(0), vec![0], 1000));
}

#[tokio::test(start_paused = true)]
async fn takes_an_async_closure_and_can_be_spawned() {
    let hedger = HedgeLayer::new("closure", CloneRequest).delay(10 * MS).hedger();
    let task = tokio::spawn(async move {
        let calls = AtomicU32::new(0);
        let result = hedger
            .call(async || {
                let number = calls.fetch_add(1, Relaxed);
                sleep(if number == 0 { SECOND } else { MS }).await;
                Ok::<_, io::Error>(number)
            })
            .await;
        (result.unwrap(), calls.into_inner())
    });
    assert_eq!(task.await.unwrap(), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn tells_what_happened() {
    let layer = HedgeLayer::new("figures", CloneRequest)
        .delay(100 * MS)
        .budget(Budget::try_new(0.0, 2, SECOND).unwrap())
        .classify(|result: &Result<usize, Failure>| judge(result));
    let hedger = layer.hedger();
    for attempts in [
        &[(0, Answers)][..],
        &[(0, Broken)],
        &[(50, Answers)],
        &[(300, Answers), (100, Answers)],
        &[(150, Answers), (100, Answers)],
        &[(300, Answers)],
    ] {
        let script = Script::of(attempts.iter().copied());
        let _ = hedger.clone().call(|| script.attempt()).await;
    }
    let mut seen = Vec::new();
    layer.hedger().observe(&mut |Metric { name, value, .. }| seen.push((name, value)));
    assert_eq!(
        seen,
        [
            ("calls", Value::Counter(6)),
            ("hedges", Value::Counter(2)),
            ("hedge_wins", Value::Counter(1)),
            ("budget_exhausted", Value::Counter(1)),
            ("delay", Value::Gauge(0.1)),
        ]
    );
    assert_eq!(hedger.origin(), Origin::new("hedge", "figures"));
    assert_eq!(hedger.budget().calls(), 6);
    assert_eq!(judge(&Ok(1)), Outcome::Success);
}
