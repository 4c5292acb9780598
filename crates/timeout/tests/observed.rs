//! What the handle tells, and what a timeout says of its decisions.

use std::{future::pending, time::Duration};

use buttress_core::{Deadline, Decisions, Observe, Rejected, Setting, SettingValue};
use buttress_timeout::TimeoutLayer;
use tower::{Layer, ServiceExt, service_fn};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn who_gives_up_says_why() {
    for (deadline, why) in [(3 * SECOND, "its limit was up"), (SECOND / 2, "the caller's deadline passed")] {
        let service = TimeoutLayer::new(SECOND)
            .name("why")
            .layer(service_fn(async |()| pending::<Result<(), Rejected>>().await));
        let mut decisions = Decisions::new();
        let call = Deadline::after(deadline).scope(service.oneshot(()));
        tokio::pin!(call);
        assert!(std::future::poll_fn(|cx| decisions.collect(|| call.as_mut().poll(cx))).await.is_err());
        let [decision] = decisions.as_slice() else { panic!("{decisions:?}") };
        assert_eq!((decision.what, &*decision.why), ("gave_up", why));
    }
}

#[test]
fn its_limit_is_its_setting() {
    let mut seen = Vec::new();
    TimeoutLayer::new(SECOND).settings(&mut |setting| seen.push(setting));
    assert_eq!(seen, [Setting::new("limit", SettingValue::Duration(SECOND))]);
}
