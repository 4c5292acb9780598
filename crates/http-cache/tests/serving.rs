//! What a stored response becomes.

mod support;

use buttress_http_cache::{HttpCache, Kind};
use support::{
    Origin, URI, ask, ask_for, behind, get, numbered, private, request, response, seconds, shared,
};
use tower::{Layer, Service, ServiceExt, service_fn};

const FRESH: &[(&str, &str)] =
    &[("cache-control", "max-age=60"), ("etag", "\"1\""), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")];

#[tokio::test(start_paused = true)]
async fn a_fresh_response_is_served_with_its_age() {
    for cache in [private(), shared()] {
        let origin = Origin::always(FRESH);
        let cached = behind(&cache, &origin);
        let first = get(&cached).await;
        assert_eq!((first.body.as_str(), first.field("age")), ("answer 0", None));
        assert_eq!(first.cache_status(), "c;fwd=uri-miss;fwd-status=200;ttl=60;stored");
        seconds(7).await;
        let second = get(&cached).await;
        assert_eq!((second.body.as_str(), second.field("age")), ("answer 0", Some("7")));
        assert_eq!(second.cache_status(), "c;hit;ttl=53");
        assert_eq!(second.field("content-length"), Some("8"));
        assert!(second.field("date").is_some());
        seconds(53).await;
        assert_eq!(get(&cached).await.body, "answer 1", "it is stale at its 60th second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_is_answered_by_a_stored_get() {
    let origin = Origin::always(FRESH);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    let head = ask(&cached, "HEAD", &[]).await;
    assert_eq!((head.status(), head.body.as_str()), (200, ""));
    assert_eq!(head.field("content-length"), Some("8"));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_a_head_is_not_stored() {
    let origin = Origin::always(FRESH);
    let cached = behind(&shared(), &origin);
    ask(&cached, "HEAD", &[]).await;
    assert_eq!(get(&cached).await.body, "answer 1");
}

#[tokio::test(start_paused = true)]
async fn a_head_that_tells_of_another_response_outdates_the_stored_one() {
    let origin = Origin::new(async |request, number| {
        let tag = if request.method == "HEAD" { "\"2\"" } else { "\"1\"" };
        Ok(numbered(&[("cache-control", "max-age=60"), ("etag", tag)], number))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    assert_eq!(ask(&cached, "HEAD", &[("cache-control", "no-cache")]).await.field("etag"), Some("\"2\""));
    assert_eq!(get(&cached).await.body, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn a_client_s_condition_is_answered_from_the_store() {
    let origin = Origin::always(FRESH);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    for condition in [
        ("if-none-match", "\"0\", W/\"1\""),
        ("if-none-match", "*"),
        ("if-modified-since", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ] {
        let same = ask(&cached, "GET", &[condition]).await;
        assert_eq!((same.status(), same.body.as_str()), (304, ""), "{condition:?}");
        assert_eq!(same.field("etag"), Some("\"1\""));
        assert!(same.field("age").is_some());
    }
    let other = ask(
        &cached,
        "GET",
        &[("if-none-match", "\"2\""), ("if-modified-since", "Fri, 02 Jan 2026 00:00:00 GMT")],
    )
    .await;
    assert_eq!((other.status(), other.body.as_str()), (200, "answer 0"), "the tag comes first");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_range_of_a_stored_response() {
    let origin = Origin::always(FRESH);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    let part = ask(&cached, "GET", &[("range", "bytes=1-3")]).await;
    assert_eq!((part.status(), part.body.as_str()), (206, "nsw"));
    assert_eq!(part.field("content-range"), Some("bytes 1-3/8"));
    assert_eq!(part.field("content-length"), Some("3"));
    assert_eq!(ask(&cached, "GET", &[("range", "bytes=-2")]).await.body, " 0");
    assert_eq!(ask(&cached, "GET", &[("range", "bytes=6-")]).await.body, " 0");
    let beyond = ask(&cached, "GET", &[("range", "bytes=8-")]).await;
    assert_eq!((beyond.status(), beyond.field("content-range")), (416, Some("bytes */8")));
    let outdated = ask(&cached, "GET", &[("range", "bytes=1-3"), ("if-range", "\"0\"")]).await;
    assert_eq!((outdated.status(), outdated.body.as_str()), (200, "answer 0"));
    let current = ask(&cached, "GET", &[("range", "bytes=1-3"), ("if-range", "\"1\"")]).await;
    assert_eq!(current.status(), 206);
    let same = ask(&cached, "GET", &[("range", "bytes=1-3"), ("if-none-match", "\"1\"")]).await;
    assert_eq!(same.status(), 304, "a condition comes before a range");
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_part_is_not_stored() {
    let origin = Origin::new(async |_, _| {
        Ok(response(206, &[("cache-control", "max-age=60"), ("content-range", "bytes 0-2/9")], "abc"))
    });
    let cached = behind(&shared(), &origin);
    for _ in 0..2 {
        assert_eq!(ask(&cached, "GET", &[("range", "bytes=0-2")]).await.status(), 206);
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_never_asks_the_service() {
    let origin = Origin::always(FRESH);
    let cached = behind(&shared(), &origin);
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(ask(&cached, "GET", &only).await.status(), 504);
    assert_eq!(origin.calls(), 0);
    get(&cached).await;
    assert_eq!(ask(&cached, "GET", &only).await.body, "answer 0");
    seconds(60).await;
    assert_eq!(ask(&cached, "GET", &only).await.status(), 504);
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn several_variants_of_an_address() {
    let origin = Origin::new(async |request, _| {
        let language = request.headers.get("accept-language").map_or("none", |value| value.to_str().unwrap());
        Ok(response(
            200,
            &[("cache-control", "max-age=60"), ("vary", "accept-language")],
            language.to_owned(),
        ))
    });
    let cached = behind(&shared(), &origin);
    for language in ["de", "fr", "de", "fr"] {
        assert_eq!(ask(&cached, "GET", &[("accept-language", language)]).await.body, language);
    }
    assert_eq!(get(&cached).await.body, "none");
    assert_eq!(get(&cached).await.body, "none");
    assert_eq!(origin.calls(), 3);
    let missed = ask(&cached, "GET", &[("accept-language", "it")]).await;
    assert!(missed.cache_status().starts_with("c;fwd=vary-miss;fwd-status=200"), "{}", missed.cache_status());
}

#[tokio::test(start_paused = true)]
async fn variants_of_an_address_are_bounded() {
    let origin = Origin::always(&[("cache-control", "max-age=60"), ("vary", "x")]);
    let cached = behind(&shared(), &origin);
    for number in 0..40 {
        ask(&cached, "GET", &[("x", &number.to_string())]).await;
    }
    assert_eq!(ask(&cached, "GET", &[("x", "39")]).await.body, "answer 39");
    assert_eq!(origin.calls(), 40);
    ask(&cached, "GET", &[("x", "7")]).await;
    assert_eq!(origin.calls(), 41, "the oldest made room");
}

#[tokio::test(start_paused = true)]
async fn a_hit_needs_no_service() {
    let cache = shared();
    let origin = Origin::always(FRESH);
    get(&behind(&cache, &origin)).await;
    // One that is never ready.
    let saturated = tower::limit::ConcurrencyLimit::new(origin.clone(), 0);
    let mut cached = cache.layer().layer(saturated);
    let answer = cached.ready().await.unwrap().call(request("GET", URI, &[])).await.unwrap();
    assert_eq!(answer.headers()["age"], "0");
}

#[tokio::test(start_paused = true)]
async fn a_request_with_content_or_without_a_host_goes_past() {
    let origin = Origin::always(FRESH);
    let cached = behind(&shared(), &origin);
    for _ in 0..2 {
        ask(&cached, "GET", &[("content-length", "3")]).await;
        ask_for(&cached, "GET", "/thing", &[]).await;
        ask_for(&cached, "GET", "/thing", &[("host", "a"), ("host", "b")]).await;
    }
    assert_eq!(origin.calls(), 6);
    for _ in 0..2 {
        ask_for(&cached, "GET", "/thing", &[("host", "origin.example")]).await;
        get(&cached).await;
    }
    assert_eq!(origin.calls(), 7, "a host is a host");
}

#[tokio::test(start_paused = true)]
async fn cache_status_can_be_left_out_and_is_added_to_the_one_that_is_there() {
    let quiet = HttpCache::builder("c", Kind::Shared).without_cache_status().build();
    let origin = Origin::always(FRESH);
    assert_eq!(get(&behind(&quiet, &origin)).await.field("cache-status"), None);
    let behind_another = Origin::always(&[("cache-control", "max-age=60"), ("cache-status", "inner; hit")]);
    let cached = behind(&shared(), &behind_another);
    for _ in 0..2 {
        let answer = get(&cached).await;
        let said: Vec<_> =
            answer.headers().get_all("cache-status").iter().map(|line| line.to_str().unwrap()).collect();
        let said = said.join(", ");
        assert!(said.starts_with("inner") && said.contains("hit, c;"), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_of_a_query_or_a_field_is_shown() {
    let cache = shared();
    let origin = Origin::always(FRESH);
    let cached = behind(&cache, &origin);
    let future =
        cached.clone().call(request("GET", "http://a/?token=secret", &[("authorization", "secret")]));
    for shown in
        [format!("{cached:?}"), format!("{cache:?}"), format!("{:?}", cache.layer()), format!("{future:?}")]
    {
        assert!(!shown.contains("secret"), "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn services_of_one_layer_share_and_a_panic_harms_one_call() {
    let cache = shared();
    let panics = service_fn(async |_: http::Request<http_body_util::Empty<bytes::Bytes>>| -> Result<support::Answer, support::Failure> {
        panic!("at work")
    });
    let call = tokio::spawn(cache.layer().layer(panics).oneshot(request("GET", URI, &[])));
    assert!(call.await.unwrap_err().is_panic());
    let (first, second) = (Origin::always(FRESH), Origin::always(FRESH));
    get(&behind(&cache, &first)).await;
    get(&behind(&cache, &second)).await;
    assert_eq!((first.calls(), second.calls()), (1, 0));
    assert_eq!(cache.stats().hits, 1);
}
