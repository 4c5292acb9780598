//! What the handle tells and does, and what a cache says of its decisions.

mod support;

use std::time::Duration;

use buttress_core::{Observe, Setting, SettingValue, UnknownAction};
use buttress_http_cache::{HttpCache, Kind};
use buttress_testkit::observed::{said, settings, watched};
use support::{Origin, ask, behind, get, numbered, seconds, shared};

#[test]
fn settings_are_those_in_force() {
    let cache = HttpCache::builder("settings", Kind::Shared)
        .max_weight(1 << 20)
        .max_body(1 << 10)
        .heuristic(0.5, Duration::from_secs(60))
        .https()
        .build();
    assert_eq!(
        settings(&cache),
        [
            Setting::new("kind", SettingValue::Word("shared")),
            Setting::new("max_weight", SettingValue::Count(1 << 20)),
            Setting::new("max_body", SettingValue::Count(1 << 10)),
            Setting::new("heuristic_fraction", SettingValue::Ratio(0.5)),
            Setting::new("heuristic_most", SettingValue::Duration(Duration::from_secs(60))),
            Setting::new("stale_if_error", SettingValue::Off),
            Setting::new("cdn_cache_control", SettingValue::Off),
            Setting::new("https", SettingValue::Word("on")),
            Setting::new("without_cache_status", SettingValue::Off),
        ]
    );
    let cache = HttpCache::builder("others", Kind::Private)
        .stale_if_error(Duration::from_secs(9))
        .cdn_cache_control()
        .without_cache_status()
        .build();
    let seen = settings(&cache);
    for expected in [
        Setting::new("kind", SettingValue::Word("private")),
        Setting::new("stale_if_error", SettingValue::Duration(Duration::from_secs(9))),
        Setting::new("cdn_cache_control", SettingValue::Word("on")),
        Setting::new("https", SettingValue::Off),
        Setting::new("without_cache_status", SettingValue::Word("on")),
    ] {
        assert!(seen.contains(&expected), "{seen:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_may_clear_it() {
    let (cache, origin) = (shared(), Origin::always(&[("cache-control", "max-age=60")]));
    let cached = behind(&cache, &origin);
    get(&cached).await;
    get(&cached).await;
    assert_eq!((cache.act("reset"), origin.calls()), (Err(UnknownAction), 1));
    cache.downgrade().upgrade().unwrap().act("clear").unwrap();
    get(&cached).await;
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_served_past_its_time_says_why() {
    for (grants, why) in [
        ("max-age=10, stale-while-revalidate=30", "5 s past its time: it is validated meanwhile"),
        ("max-age=10, stale-if-error=30", "5 s past its time: the service failed"),
    ] {
        let origin = Origin::new(async move |_, number| match number {
            0 => Ok(numbered(&[("cache-control", grants)], number)),
            _ => Err("down".into()),
        });
        let cached = behind(&shared(), &origin);
        get(&cached).await;
        assert_eq!(watched(get(&cached)).await.1, vec![]);
        seconds(15).await;
        assert_eq!(watched(get(&cached)).await.1, [said("served_stale", why)]);
    }
    let cached = behind(&shared(), &Origin::always(&[("cache-control", "max-age=10")]));
    get(&cached).await;
    seconds(15).await;
    let (answer, why) = watched(ask(&cached, "GET", &[("cache-control", "max-stale")])).await;
    assert_eq!(answer.body, "answer 0");
    assert_eq!(why, [said("served_stale", "5 s past its time: the request takes it")]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_takes_nothing_else_is_told_why() {
    let cached = behind(&shared(), &Origin::always(&[]));
    let (answer, why) = watched(ask(&cached, "GET", &[("cache-control", "only-if-cached")])).await;
    assert_eq!(answer.status(), 504);
    assert_eq!(why, [said("refused", "nothing is stored, and the request takes nothing else")]);
}

#[test]
fn a_weak_handle_keeps_nothing_alive() {
    let cache = shared();
    let (weak, layer) = (cache.downgrade(), cache.layer());
    drop(cache);
    assert!(weak.upgrade().is_some());
    drop(layer);
    assert!(weak.upgrade().is_none());
}
