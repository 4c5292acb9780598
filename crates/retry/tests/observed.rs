//! What the handle tells, and what a retry says of its decisions.

use std::time::Duration;

use buttress_core::{Backoff, BoxError, Deadline, Decisions, Observe, Setting, SettingValue};
use buttress_retry::{CloneRequest, RetryLayer};
use tower::{Layer, ServiceExt, service_fn};

async fn decisions_of(layer: RetryLayer, deadline: Duration) -> Vec<(&'static str, String)> {
    let service = layer.layer(service_fn(async |()| Err::<(), _>(BoxError::from("no"))));
    let mut decisions = Decisions::new();
    let call = Deadline::after(deadline).scope(service.oneshot(()));
    tokio::pin!(call);
    _ = std::future::poll_fn(|cx| decisions.collect(|| call.as_mut().poll(cx))).await;
    decisions.as_slice().iter().map(|decision| (decision.what, decision.why.clone())).collect()
}

#[tokio::test(start_paused = true)]
async fn each_attempt_and_the_end_say_why() {
    let layer = || RetryLayer::new("why").backoff(Backoff::constant(Duration::from_millis(120))).retries(2);
    assert_eq!(
        decisions_of(layer(), Duration::from_secs(9)).await,
        [
            ("retried", "attempt 2 of 3 in 120.0ms, after: failure".to_owned()),
            ("retried", "attempt 3 of 3 in 120.0ms, after: failure".to_owned()),
            ("gave_up", "all of 3 attempts were made".to_owned()),
        ]
    );
    assert_eq!(
        decisions_of(layer(), Duration::from_millis(200)).await.last().unwrap(),
        &("gave_up", "a wait of 120.0ms would not end before the caller's deadline".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn settings_are_those_in_force_and_a_weak_handle_ends_with_the_layer() {
    let layer = RetryLayer::new("settings").retries(7).requests(CloneRequest);
    let weak = layer.retrier().downgrade();
    let mut seen = Vec::new();
    weak.upgrade().unwrap().settings(&mut |setting| seen.push(setting));
    assert!(seen.contains(&Setting::new("retries", SettingValue::Count(7))), "{seen:?}");
    for name in
        ["backoff_first", "backoff_cap", "backoff_factor", "budget_ratio", "budget_floor", "budget_window"]
    {
        assert!(seen.iter().any(|setting| setting.name == name), "{name} in {seen:?}");
    }
    drop(layer);
    assert!(weak.upgrade().is_none());
}
