//! What the handle tells, and what a bulkhead says of its decisions.

use std::time::Duration;

use buttress_bulkhead::{Adaptive, BulkheadLayer, Limit, Queue};
use buttress_core::{Decisions, Observe, Setting, SettingValue};

use buttress_testkit::observed::settings;
#[tokio::test(start_paused = true)]
async fn settings_are_those_in_force() {
    let queue = Queue::try_new(5, Duration::from_secs(2)).unwrap();
    let layer = BulkheadLayer::builder("settings", Limit::fixed(4).unwrap()).queue(queue).build();
    assert_eq!(
        settings(&layer.limiter()),
        [
            Setting::new("limit", SettingValue::Count(4)),
            Setting::new("reserve", SettingValue::Count(0)),
            Setting::new("queue_capacity", SettingValue::Count(5)),
            Setting::new("max_wait", SettingValue::Duration(Duration::from_secs(2))),
        ]
    );
    let adaptive = Limit::adaptive(Adaptive::vegas().with_limits(2, 8, 32).unwrap());
    let seen = settings(&BulkheadLayer::new("adaptive", adaptive).limiter());
    assert_eq!(
        seen[..3],
        [
            Setting::new("algorithm", SettingValue::Word("vegas")),
            Setting::new("limit_min", SettingValue::Count(2)),
            Setting::new("limit_max", SettingValue::Count(32)),
        ]
    );
    assert!(seen.contains(&Setting::new("queue_capacity", SettingValue::Off)));
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_or_waits_is_told_why() {
    let limiter = BulkheadLayer::new("why", Limit::fixed(1).unwrap()).limiter();
    let mut decisions = Decisions::new();
    let held = decisions.collect(|| limiter.try_acquire()).unwrap();
    assert!(decisions.as_slice().is_empty());
    assert!(decisions.collect(|| limiter.try_acquire()).is_err());
    let [decision] = decisions.as_slice() else { panic!("{decisions:?}") };
    assert_eq!((decision.what, &*decision.why), ("refused", "1 of 1 in flight, 0 waiting"));
    drop(held);

    let queue = Queue::try_new(5, Duration::from_secs(2)).unwrap();
    let limiter = BulkheadLayer::builder("waits", Limit::fixed(1).unwrap()).queue(queue).build().limiter();
    let _held = limiter.try_acquire().unwrap();
    let mut decisions = Decisions::new();
    let wait = limiter.acquire();
    tokio::pin!(wait);
    assert!(std::future::poll_fn(|cx| decisions.collect(|| wait.as_mut().poll(cx))).await.is_err());
    let said: Vec<_> = decisions.as_slice().iter().map(|decision| (decision.what, &*decision.why)).collect();
    assert_eq!(
        said,
        [("queued", "1 of 1 in flight, 1 waiting"), ("gave_up", "no permit became free in time")]
    );
}

#[test]
fn a_weak_handle_keeps_nothing_alive() {
    let layer = BulkheadLayer::new("weak", Limit::fixed(1).unwrap());
    let weak = layer.limiter().downgrade();
    assert!(weak.upgrade().is_some());
    drop(layer);
    assert!(weak.upgrade().is_none());
}
