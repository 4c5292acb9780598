//! What the handle tells, and what a hedge says of its decisions.

use std::time::Duration;

use buttress_core::{Decisions, Observe, Rejected, Setting, SettingValue};
use buttress_hedge::{CloneRequest, HedgeLayer};
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};

const DELAY: Duration = Duration::from_millis(20);

#[tokio::test(start_paused = true)]
async fn a_second_attempt_says_why() {
    let layer = HedgeLayer::new("why", CloneRequest).delay(DELAY);
    let service = layer.layer(service_fn(async |()| {
        sleep(3 * DELAY).await;
        Ok::<_, Rejected>(())
    }));
    let mut decisions = Decisions::new();
    let call = service.oneshot(());
    tokio::pin!(call);
    std::future::poll_fn(|cx| decisions.collect(|| call.as_mut().poll(cx))).await.unwrap();
    let [decision] = decisions.as_slice() else { panic!("{decisions:?}") };
    assert_eq!(decision.what, "hedged");
    assert_eq!(decision.why, "attempt 2 of 2: the one before has no answer after 20.0ms");
}

#[test]
fn settings_are_those_in_force_and_a_weak_handle_ends_with_the_layer() {
    let layer = HedgeLayer::new("settings", CloneRequest).delay(DELAY);
    let weak = layer.hedger().downgrade();
    let mut seen = Vec::new();
    weak.upgrade().unwrap().settings(&mut |setting| seen.push(setting));
    assert_eq!(
        seen[..2],
        [
            Setting::new("attempts", SettingValue::Count(2)),
            Setting::new("delay", SettingValue::Duration(DELAY)),
        ]
    );
    let layer_measured = HedgeLayer::new("measured", CloneRequest);
    let mut seen = Vec::new();
    layer_measured.hedger().settings(&mut |setting| seen.push(setting));
    assert!(seen.contains(&Setting::new("percentile", SettingValue::Ratio(0.95))), "{seen:?}");
    drop(layer);
    assert!(weak.upgrade().is_none());
}
