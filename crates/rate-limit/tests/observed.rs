//! What the handle tells, and what a limiter says of its decisions.

use std::time::Duration;

use buttress_core::{Decisions, Observe, Setting, SettingValue};
use buttress_rate_limit::{Limit, Rate, RateLimitLayer, RateLimiter};

#[test]
fn settings_are_those_in_force() {
    let limiter = RateLimiter::new("settings", Limit::gcra(Rate::per_minute(60), 3).unwrap());
    let mut seen = Vec::new();
    limiter.settings(&mut |setting| seen.push(setting));
    assert_eq!(
        seen,
        [
            Setting::new("limit", SettingValue::Count(60)),
            Setting::new("per", SettingValue::Duration(Duration::from_secs(60))),
            Setting::new("algorithm", SettingValue::Word("gcra")),
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_why() {
    let limiter = RateLimiter::new("why", Limit::fixed_window(Rate::per_second(2)));
    let mut decisions = Decisions::new();
    for _ in 0..2 {
        decisions.collect(|| limiter.try_acquire(1)).unwrap();
    }
    assert!(decisions.as_slice().is_empty(), "what passes is no decision");
    assert!(decisions.collect(|| limiter.try_acquire(1)).is_err());
    let [decision] = decisions.as_slice() else { panic!("{decisions:?}") };
    assert_eq!(decision.what, "refused");
    assert!(decision.why.starts_with("2 in 1.0s are used up; the next in "), "{}", decision.why);
    assert!(decisions.collect(|| limiter.try_acquire(3)).is_err());
    assert!(decisions.as_slice()[1].why.ends_with("so many at once never have a chance"), "{decisions:?}");
}

#[test]
fn a_weak_handle_keeps_nothing_alive() {
    let layer = RateLimitLayer::new("weak", Rate::per_second(2));
    let weak = layer.limiter().downgrade();
    assert!(weak.upgrade().is_some());
    drop(layer);
    assert!(weak.upgrade().is_none());
}
