//! Stale responses that may be served (RFC 5861, and RFC 9111, section 4.2.4).

mod support;

use std::{future::pending, time::Duration};

use buttress_core::Rejectable;
use buttress_http_cache::{HttpCache, Kind};
use support::{Origin, URI, ask, behind, get, numbered, private, request, response, seconds, settle, shared};
use tokio::time::sleep;
use tower::{Service, ServiceExt};

const REVALIDATE: &[(&str, &str)] =
    &[("cache-control", "max-age=10, stale-while-revalidate=30"), ("etag", "\"1\"")];
const IF_ERROR: &[(&str, &str)] = &[("cache-control", "max-age=10, stale-if-error=30")];

#[tokio::test(start_paused = true)]
async fn while_it_is_validated_the_stale_response_is_served_and_one_task_asks() {
    for cache in [private(), shared()] {
        let origin = Origin::new(async |_, number| {
            sleep(Duration::from_secs(1)).await;
            Ok(numbered(REVALIDATE, number))
        });
        let cached = behind(&cache, &origin);
        get(&cached).await;
        seconds(15).await;
        for _ in 0..50 {
            let stale = get(&cached).await;
            assert_eq!(stale.body, "answer 0");
            assert_eq!(stale.cache_status(), "c;hit;ttl=-6;detail=stale-while-revalidate");
        }
        settle().await;
        assert_eq!(origin.calls(), 2);
        sleep(Duration::from_secs(1)).await;
        settle().await;
        assert_eq!(get(&cached).await.body, "answer 1");
        assert_eq!(origin.calls(), 2);
        assert_eq!(cache.stats().refreshes, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_in_the_background_makes_it_fresh() {
    let origin = Origin::new(async |request, number| {
        if request.headers.contains_key("if-none-match") {
            return Ok(response(304, &[("etag", "\"1\"")], ""));
        }
        Ok(numbered(REVALIDATE, number))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(15).await;
    // Whatever the client's request was for, the refresh is for the whole.
    ask(&cached, "GET", &[("range", "bytes=0-1"), ("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT")])
        .await;
    settle().await;
    assert!(!origin.last().headers.contains_key("range"));
    assert!(!origin.last().headers.contains_key("if-modified-since"));
    let fresh = get(&cached).await;
    assert_eq!((fresh.body.as_str(), fresh.field("age")), ("answer 0", Some("0")));
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn beyond_its_time_or_against_the_client_s_will_it_is_not_served_stale() {
    let origin = Origin::always(REVALIDATE);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(12).await;
    assert_eq!(ask(&cached, "GET", &[("cache-control", "max-age=11")]).await.body, "answer 1");
    seconds(41).await;
    assert_eq!(get(&cached).await.body, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_or_hangs_is_not_tried_again_at_once() {
    for hangs in [false, true] {
        let origin = Origin::new(move |_, number| async move {
            match number {
                0 => Ok(numbered(&[("cache-control", "max-age=10, stale-while-revalidate=300")], 0)),
                _ if hangs => pending().await,
                _ => Err("away".into()),
            }
        });
        let cached = behind(&shared(), &origin);
        get(&cached).await;
        seconds(15).await;
        get(&cached).await;
        settle().await;
        if hangs {
            sleep(Duration::from_secs(30)).await;
        }
        for _ in 0..10 {
            assert_eq!(get(&cached).await.body, "answer 0");
            settle().await;
        }
        assert_eq!(origin.calls(), 2);
        sleep(Duration::from_secs(1)).await;
        get(&cached).await;
        settle().await;
        assert_eq!(origin.calls(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn in_place_of_an_error_the_stale_response_is_served() {
    for cache in [private(), shared()] {
        for status in [None, Some(500), Some(502), Some(503), Some(504)] {
            let origin = Origin::new(move |_, number| async move {
                match (number, status) {
                    (0, _) => Ok(numbered(IF_ERROR, 0)),
                    (_, Some(status)) => Ok(response(status, &[], "down")),
                    (_, None) => Err("away".into()),
                }
            });
            let cached = behind(&cache, &origin);
            cache.clear();
            get(&cached).await;
            seconds(15).await;
            let stale = get(&cached).await;
            assert_eq!(
                (stale.status(), stale.body.as_str(), stale.field("age")),
                (200, "answer 0", Some("15"))
            );
            assert!(stale.cache_status().starts_with("c;fwd=stale;"), "{}", stale.cache_status());
            assert!(stale.cache_status().contains("detail=stale-if-error"), "{}", stale.cache_status());
            seconds(26).await;
            let too_old = cached.clone().oneshot(request("GET", URI, &[])).await;
            assert!(too_old.is_err() || too_old.unwrap().status().is_server_error());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_place_of_another_answer_it_is_not() {
    let origin = Origin::new(move |_, number| async move {
        match number {
            0 => Ok(numbered(IF_ERROR, 0)),
            _ => Ok(response(404, &[], "gone")),
        }
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(15).await;
    assert_eq!(get(&cached).await.status(), 404);
}

#[tokio::test(start_paused = true)]
async fn a_configured_stale_if_error_holds_unless_the_service_forbids_it() {
    for (directives, kind, serves) in [
        ("max-age=10", Kind::Shared, true),
        ("max-age=10, must-revalidate", Kind::Shared, false),
        ("max-age=10, must-revalidate", Kind::Private, false),
        ("max-age=10, proxy-revalidate", Kind::Shared, false),
        ("max-age=10, proxy-revalidate", Kind::Private, true),
        ("s-maxage=10", Kind::Shared, false),
        ("max-age=10, no-cache", Kind::Shared, false),
    ] {
        let cache = HttpCache::builder("c", kind).stale_if_error(Duration::from_secs(100)).build();
        let headers: &'static _ = Box::leak(Box::new([("cache-control", directives), ("etag", "\"1\"")]));
        let origin = Origin::new(move |_, number| async move {
            match number {
                0 => Ok(numbered(headers, 0)),
                _ => Err("away".into()),
            }
        });
        let cached = behind(&cache, &origin);
        get(&cached).await;
        seconds(15).await;
        let answer = cached.clone().oneshot(request("GET", URI, &[])).await;
        assert_eq!(answer.is_ok(), serves, "{directives} {kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_inside_is_an_error_too() {
    let origin = Origin::new(async |_, number| match number {
        0 => Ok(numbered(IF_ERROR, 0)),
        _ => Err(support::refused()),
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(15).await;
    assert_eq!(get(&cached).await.body, "answer 0");
    seconds(30).await;
    let error = cached.clone().oneshot(request("GET", URI, &[])).await.unwrap_err();
    assert!(error.rejected().is_some(), "it is told as it is");
}

#[tokio::test(start_paused = true)]
async fn a_client_s_max_stale_is_taken_at_its_word() {
    let origin = Origin::always(&[("cache-control", "max-age=10")]);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(15).await;
    assert_eq!(ask(&cached, "GET", &[("cache-control", "max-stale=5")]).await.body, "answer 0");
    assert_eq!(ask(&cached, "GET", &[("cache-control", "max-stale")]).await.body, "answer 0");
    assert_eq!(ask(&cached, "GET", &[("cache-control", "max-stale=4")]).await.body, "answer 1");
}

/// Outside of a runtime there is no task to validate in: the caller does it.
#[test]
fn without_a_runtime_the_caller_validates() {
    let origin = Origin::always(&[("cache-control", "max-age=0, stale-while-revalidate=300")]);
    let mut cached = behind(&shared(), &origin);
    let mut call = |_| {
        let mut future = std::pin::pin!(cached.call(request("GET", URI, &[])));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
            panic!("it waits for nobody")
        };
        let mut body = std::pin::pin!(response.into_body());
        let frame = http_body::Body::poll_frame(body.as_mut(), &mut cx);
        assert!(frame.is_ready());
        assert!(http_body::Body::poll_frame(body, &mut cx).is_ready());
    };
    (0..2).for_each(&mut call);
    assert_eq!(origin.calls(), 2);
}
