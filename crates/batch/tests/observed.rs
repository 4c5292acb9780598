//! What the handle tells, and what a batcher says of its decisions.

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Observe, Setting, SettingValue};
use buttress_testkit::observed::{said, settings, watched};
use futures_util::{StreamExt, stream};
use support::{Backend, Failure, MS, batching, call, call_in_turn, layer, settle};
use tower::{Layer, ServiceExt};

#[test]
fn settings_are_those_in_force() {
    let backend = Backend::taking(MS);
    let service = layer("settings").max_size(7).linger(MS).bisect(|_| true).layer(backend.clone());
    let weak = service.batch().downgrade();
    assert!(weak.is_same(&service.batch().downgrade()));
    assert_eq!(
        settings(&*weak.upgrade().unwrap()),
        [
            Setting::new("max_size", SettingValue::Count(7)),
            Setting::new("max_weight", SettingValue::Off),
            Setting::new("in_flight", SettingValue::Count(1)),
            Setting::new("linger", SettingValue::Duration(MS)),
            Setting::new("max_waiting", SettingValue::Count(10_000)),
            Setting::new("bisect", SettingValue::Word("custom")),
            Setting::new("share_errors", SettingValue::Off),
            Setting::new("dedupe", SettingValue::Off),
        ]
    );
    drop(service);
    assert!(weak.upgrade().is_none());
    let weighed = layer("weighed").max_weight(9, |_| 3).share_errors().layer(backend);
    let seen = settings(&weighed.batch());
    assert_eq!(seen[1], Setting::new("max_weight", SettingValue::Count(9)));
    assert_eq!(seen[3], Setting::new("linger", SettingValue::Off));
    assert_eq!(seen[6], Setting::new("share_errors", SettingValue::Word("on")));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_why() {
    let backend = Backend::taking(20 * MS);
    let service = layer("in_vain").max_waiting(1).layer(backend.clone());
    let _in_flight = call_in_turn(&service, [1, 2]).await;
    let (late, why) = watched(Deadline::after(MS).scope(async { service.clone().oneshot(3).await })).await;
    assert!(late.is_err());
    assert_eq!(why, [said("gave_up", "the caller's deadline passed before its batch was sent")]);
    let _waits = call_in_turn(&service, [4]).await;
    let (refused, why) = watched(service.clone().oneshot(5)).await;
    assert!(refused.is_err());
    assert_eq!(why, [said("refused", "1 of 1 requests wait")]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_fails_is_told_to_whoever_was_in_it() {
    let backend = Backend::taking(20 * MS);
    let service = batching("fails", &backend);
    let _in_flight = call_in_turn(&service, [1, 2]).await;
    let other = call(&service, 3);
    settle().await;
    let failing = async {
        tokio::spawn({
            let backend = backend.clone();
            async move {
                tokio::time::sleep(Duration::from_millis(30)).await;
                backend.fail_once(Failure::Lost);
            }
        });
        service.clone().oneshot(4).await
    };
    let (failed, why) = watched(failing).await;
    assert!(failed.is_err() && other.await.unwrap().is_err());
    assert_eq!(why, [said("failed", "the batch that it was a part of failed as a whole")]);
}

#[tokio::test(start_paused = true)]
async fn whoever_processes_a_stream_hears_of_splits_and_failures() {
    let backend = Backend::poisoned_by([2]);
    let layer = layer("stream").max_size(2).bisect(|error| *error == Failure::Poison);
    let results = layer.process(stream::iter([1, 2]), backend).collect::<Vec<_>>();
    let (results, why) = watched(results).await;
    assert_eq!(results, [Ok(10), Err(Failure::Poison)]);
    assert_eq!(why, [said("split", "a batch of 2 failed as a whole: its halves are sent")]);

    let backend = Backend::taking(MS);
    backend.fail_once(Failure::Lost);
    let results = support::layer("failed").process(stream::iter([1, 2]), backend).collect::<Vec<_>>();
    assert_eq!(watched(results).await.1, [said("failed", "a batch of 2 failed")]);
}
