//! Stored responses that the service is asked about.

mod support;

use support::{Origin, ask, behind, get, numbered, private, response, seconds, shared};

const STALE: &[(&str, &str)] = &[("cache-control", "max-age=10"), ("etag", "\"1\""), ("x", "old")];

/// Answers as given, and `304` to whoever has one of its tags.
fn validating(
    headers: &'static [(&'static str, &'static str)],
    not_modified: &'static [(&'static str, &'static str)],
) -> Origin {
    let tag = headers.iter().find(|(name, _)| *name == "etag").map_or("none", |(_, tag)| tag);
    Origin::new(move |request, number| async move {
        let mut known = request.headers.get_all("if-none-match").iter();
        if known.any(|known| known.to_str().unwrap().contains(tag)) {
            Ok(response(304, not_modified, ""))
        } else {
            Ok(numbered(headers, number))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_304_makes_the_stored_response_fresh_with_its_fields() {
    for cache in [private(), shared()] {
        let origin = validating(
            STALE,
            &[("etag", "\"1\""), ("cache-control", "max-age=20"), ("x", "new"), ("content-length", "77")],
        );
        let cached = behind(&cache, &origin);
        get(&cached).await;
        seconds(10).await;
        let validated = get(&cached).await;
        assert_eq!((validated.status(), validated.body.as_str()), (200, "answer 0"));
        assert_eq!(validated.cache_status(), "c;fwd=stale;fwd-status=304;ttl=20");
        assert_eq!(origin.last().headers["if-none-match"], "\"1\"");
        seconds(19).await;
        let hit = get(&cached).await;
        assert_eq!(
            (hit.field("x"), hit.field("age"), hit.field("content-length")),
            (Some("new"), Some("19"), Some("8"))
        );
        assert_eq!((origin.calls(), cache.stats().revalidated), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_of_last_modified_is_validated_by_it() {
    let date = "Thu, 01 Jan 2026 00:00:00 GMT";
    let origin = Origin::new(move |request, number| async move {
        if request.headers.get("if-modified-since").is_some_and(|since| since == date) {
            return Ok(response(304, &[("last-modified", date)], ""));
        }
        Ok(numbered(&[("cache-control", "max-age=10"), ("last-modified", date)], number))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(10).await;
    assert_eq!(get(&cached).await.body, "answer 0");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn another_response_takes_the_place_of_the_stored_one() {
    let origin = Origin::always(STALE);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(10).await;
    assert_eq!(get(&cached).await.body, "answer 1");
    assert_eq!(get(&cached).await.body, "answer 1");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn no_cache_is_asked_for_each_time() {
    for cache in [private(), shared()] {
        let origin =
            validating(&[("cache-control", "no-cache, max-age=60"), ("etag", "\"1\"")], &[("etag", "\"1\"")]);
        let cached = behind(&cache, &origin);
        for calls in 1..4 {
            assert_eq!(ask(&cached, "GET", &[("cache-control", "max-stale")]).await.body, "answer 0");
            assert_eq!(origin.calls(), calls);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_wants_the_service_s_word_has_it() {
    let origin = validating(&[("cache-control", "max-age=60"), ("etag", "\"1\"")], &[("etag", "\"1\"")]);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    for wish in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("pragma", "no-cache"),
        ("cache-control", "min-fresh=70"),
    ] {
        let calls = origin.calls();
        // Else its age is 0, which `max-age=0` takes.
        seconds(1).await;
        assert_eq!(ask(&cached, "GET", &[wish]).await.body, "answer 0", "{wish:?}");
        assert_eq!(origin.calls(), calls + 1, "{wish:?}");
    }
}

/// Two variants, or two principals, may bear the same tag, as wrong as that is.
#[tokio::test(start_paused = true)]
async fn a_response_that_is_not_for_such_a_request_is_not_validated_by_it() {
    for (cache, field, vary) in [
        (private(), "authorization", "x"),
        (private(), "accept-language", "accept-language"),
        (shared(), "accept-language", "accept-language"),
    ] {
        let origin = Origin::new(move |request, _| async move {
            if request.headers.contains_key("if-none-match") {
                return Ok(response(304, &[("etag", "\"1\"")], ""));
            }
            let who = request.headers[field].to_str().unwrap().to_owned();
            let headers = [("cache-control", "max-age=10"), ("vary", vary), ("etag", "\"1\"")];
            Ok(response(200, &headers, who))
        });
        let cached = behind(&cache, &origin);
        for who in ["a", "b"] {
            assert_eq!(ask(&cached, "GET", &[(field, who)]).await.body, who);
        }
        seconds(10).await;
        for who in ["a", "b", "a", "b"] {
            assert_eq!(ask(&cached, "GET", &[(field, who)]).await.body, who);
        }
        assert_eq!(origin.calls(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_about_something_else_is_asked_again_without_a_condition() {
    let origin = Origin::new(async |request, number| {
        if request.headers.contains_key("if-none-match") {
            return Ok(response(304, &[("etag", "\"other\"")], ""));
        }
        Ok(numbered(STALE, number))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(10).await;
    let answer = get(&cached).await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, "answer 2"));
}

/// Many servers leave out what a `304` has to say: asked by one tag, it can be about that alone.
#[tokio::test(start_paused = true)]
async fn a_304_without_a_tag_is_about_the_only_one_that_was_sent() {
    let known = ("if-none-match", "\"1\"");
    let other = ("if-none-match", "\"2\"");
    let dated = ("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT");
    let newer = &[("last-modified", "Fri, 02 Jan 2026 00:00:00 GMT")] as &[_];
    for (told, client, calls, then) in [
        (&[] as &[_], None, 2, "answer 0"),
        (&[], Some(known), 2, "answer 0"),
        // It may be about the client's own, or about something else: asked again without the cache's condition.
        (&[], Some(other), 3, "answer 2"),
        (&[], Some(dated), 3, "answer 2"),
        (newer, None, 3, "answer 2"),
    ] {
        let origin = validating(STALE, told);
        let cached = behind(&shared(), &origin);
        get(&cached).await;
        seconds(10).await;
        ask(&cached, "GET", client.as_slice()).await;
        assert_eq!(get(&cached).await.body, then, "{told:?} {client:?}");
        assert_eq!(origin.calls(), calls, "{told:?} {client:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_s_own_condition_goes_along_and_its_304_is_its_own() {
    let origin = Origin::new(async |request, number| {
        let known = request.headers.get("if-none-match").map_or("", |known| known.to_str().unwrap());
        if known.contains("\"2\"") {
            return Ok(response(304, &[("etag", "\"2\"")], ""));
        }
        Ok(numbered(STALE, number))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(10).await;
    let theirs = ask(&cached, "GET", &[("if-none-match", "\"2\"")]).await;
    assert_eq!((theirs.status(), theirs.field("etag")), (304, Some("\"2\"")));
    let sent = origin.last();
    let sent: Vec<_> =
        sent.headers.get_all("if-none-match").iter().map(|line| line.to_str().unwrap()).collect();
    assert!(sent.join(",").contains("\"1\""), "{sent:?}");
    // Nothing was freshened by it.
    get(&cached).await;
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn after_a_304_the_client_s_condition_is_judged_by_the_stored_response() {
    let origin = validating(STALE, &[("etag", "\"1\"")]);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(10).await;
    let same = ask(&cached, "GET", &[("if-none-match", "\"1\"")]).await;
    assert_eq!((same.status(), same.body.as_str()), (304, ""));
    seconds(10).await;
    let whole = ask(&cached, "GET", &[("if-none-match", "\"0\"")]).await;
    assert_eq!((whole.status(), whole.body.as_str()), (200, "answer 0"));
    seconds(10).await;
    let part = ask(&cached, "GET", &[("range", "bytes=0-2")]).await;
    assert_eq!((part.status(), part.body.as_str()), (206, "ans"));
}

#[tokio::test(start_paused = true)]
async fn a_condition_without_a_stored_response_is_the_service_s_to_answer() {
    let origin = Origin::new(async |_, _| Ok(response(304, &[("etag", "\"1\"")], "")));
    let cached = behind(&shared(), &origin);
    assert_eq!(ask(&cached, "GET", &[("if-none-match", "\"1\"")]).await.status(), 304);
    assert_eq!(ask(&cached, "GET", &[("if-none-match", "\"1\"")]).await.status(), 304);
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_stored_any_more_is_let_go() {
    for (status, headers) in [
        (200, &[("cache-control", "no-store")] as &[_]),
        (304, &[("cache-control", "no-store"), ("etag", "\"1\"")]),
    ] {
        let cache = shared();
        let origin = Origin::new(move |_, number| async move {
            match number {
                0 => Ok(numbered(STALE, 0)),
                _ => Ok(response(status, headers, "")),
            }
        });
        let cached = behind(&cache, &origin);
        get(&cached).await;
        seconds(10).await;
        assert_eq!(get(&cached).await.status(), 200);
        assert_eq!(cache.stats().addresses, 0, "after {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_response_without_a_validator_is_asked_for_anew() {
    let origin = Origin::always(&[("cache-control", "max-age=10")]);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(10).await;
    assert_eq!(get(&cached).await.body, "answer 1");
    let sent = origin.last();
    assert!(!sent.headers.contains_key("if-none-match") && !sent.headers.contains_key("if-modified-since"));
}
