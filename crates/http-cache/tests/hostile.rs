//! Servers and clients that do not do as they should, and moments that could not be worse.

mod support;

use std::{sync::Arc, time::Duration};

use buttress_http_cache::{HttpCache, Kind};
use support::{
    Origin, URI, ask, ask_for, behind, get, numbered, part, private, read, request, response, seconds,
    settle, shared, streamed, with_body,
};
use tokio::{task::JoinSet, time::sleep};
use tower::ServiceExt;

#[tokio::test(start_paused = true)]
async fn the_refusal_of_a_range_is_not_everybody_s_answer() {
    let origin = Origin::new(async |request, number| {
        let fresh = [("cache-control", "max-age=60"), ("etag", "\"1\""), ("set-cookie", "a=b")];
        Ok(if request.headers.contains_key("range") {
            response(416, &fresh, "")
        } else {
            numbered(&fresh, number)
        })
    });
    let cached = behind(&shared(), &origin);
    assert_eq!(ask(&cached, "GET", &[("range", "bytes=100-")]).await.status(), 416);
    assert_eq!(get(&cached).await.status(), 200);
    // Nor does the cache's own say anything of the stored response.
    let refused = ask(&cached, "GET", &[("range", "bytes=100-")]).await;
    assert_eq!((refused.status(), refused.field("content-range")), (416, Some("bytes */8")));
    for name in ["cache-control", "etag", "set-cookie"] {
        assert_eq!(refused.field(name), None, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_304_to_the_cache_s_condition_is_not_the_client_s() {
    // A file that was put back to an older state.
    let origin = Origin::new(async |request, number| {
        let dates = ["Mon, 01 Jan 2024 00:00:00 GMT", "Sun, 01 Jan 2023 00:00:00 GMT"];
        let now = dates[usize::from(number > 0)];
        let since = request.headers.get("if-modified-since").map(|since| since.to_str().unwrap().to_owned());
        if since.is_some_and(|since| since != "Wed, 01 Jan 2020 00:00:00 GMT") && number > 0 {
            return Ok(response(304, &[("last-modified", now)], ""));
        }
        Ok(numbered(&[("cache-control", "max-age=10"), ("last-modified", now)], number))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(15).await;
    let answer = ask(&cached, "GET", &[("if-modified-since", "Wed, 01 Jan 2020 00:00:00 GMT")]).await;
    assert_eq!((answer.status(), answer.body.as_str()), (200, "answer 2"), "what it has is older still");
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_fails_rests_though_the_stale_response_stands_in_for_errors() {
    let origin = Origin::new(async |_, number| match number {
        0 => Ok(numbered(
            &[("cache-control", "max-age=10, stale-while-revalidate=300, stale-if-error=300")],
            0,
        )),
        _ => Err("away".into()),
    });
    let cache = shared();
    let cached = behind(&cache, &origin);
    get(&cached).await;
    seconds(15).await;
    for _ in 0..10 {
        assert_eq!(get(&cached).await.body, "answer 0");
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((origin.calls(), cache.stats().stale), (2, 10));
}

#[tokio::test(start_paused = true)]
async fn what_is_newer_and_not_stored_ends_what_is_older() {
    for (length, background) in [(true, false), (false, false), (true, true)] {
        let cache = HttpCache::builder("c", Kind::Shared).max_body(100).build();
        let origin = Origin::new(move |_, number| async move {
            let headers: &[_] = &[("cache-control", "max-age=10, stale-while-revalidate=300")];
            Ok(match (number, length) {
                (0, _) => numbered(headers, 0),
                (_, true) => response(200, headers, "x".repeat(200)),
                (_, false) => {
                    let (sender, body) = streamed();
                    tokio::spawn(async move {
                        for _ in 0..40 {
                            sender.send(part("xxxxx")).unwrap();
                        }
                    });
                    with_body(200, headers, body)
                }
            })
        });
        let cached = behind(&cache, &origin);
        get(&cached).await;
        if background {
            seconds(15).await;
            get(&cached).await;
            settle().await;
        } else {
            assert_eq!(ask(&cached, "GET", &[("cache-control", "no-cache")]).await.body.len(), 200);
        }
        assert_eq!(get(&cached).await.body.len(), 200, "{length} {background}");
        assert_eq!(cache.stats().addresses, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_who_leaves_with_the_head_leaves_one_successor() {
    let origin = Origin::new(async |_, number| {
        sleep(Duration::from_secs(1)).await;
        Ok(numbered(&[("cache-control", "max-age=60")], number))
    });
    let cached = behind(&shared(), &origin);
    let leader = tokio::spawn(cached.clone().oneshot(request("GET", URI, &[])));
    settle().await;
    let mut calls = JoinSet::new();
    for _ in 0..63 {
        let cached = cached.clone();
        calls.spawn(async move { get(&cached).await });
    }
    drop(leader.await.unwrap().unwrap());
    let answers = calls.join_all().await;
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert!(origin.calls() <= 2, "{}", origin.calls());
}

#[tokio::test(start_paused = true)]
async fn the_credentials_of_one_client_end_nothing_of_the_others_in_a_shared_cache() {
    for status in [304, 401] {
        let origin = Origin::new(move |request, number| async move {
            if request.headers.contains_key("authorization") {
                return Ok(response(status, &[("etag", "\"1\"")], ""));
            }
            Ok(numbered(&[("cache-control", "max-age=600"), ("etag", "\"1\"")], number))
        });
        let cached = behind(&shared(), &origin);
        get(&cached).await;
        ask(&cached, "GET", &[("cache-control", "no-cache"), ("authorization", "x")]).await;
        assert_eq!(get(&cached).await.body, "answer 0", "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cookie_of_a_304_is_for_one_alone_in_a_shared_cache() {
    let origin = Origin::new(async |request, number| {
        if request.headers.contains_key("if-none-match") {
            return Ok(response(304, &[("etag", "\"1\""), ("set-cookie", "session=ada")], ""));
        }
        Ok(numbered(&[("cache-control", "max-age=10"), ("etag", "\"1\"")], number))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(15).await;
    assert_eq!(get(&cached).await.field("set-cookie"), Some("session=ada"));
    assert_eq!(get(&cached).await.field("set-cookie"), None);
}

#[tokio::test(start_paused = true)]
async fn who_asks_is_not_guessed_from_an_address() {
    let origin = Origin::always(&[("cache-control", "max-age=60")]);
    let cached = behind(&private(), &origin);
    for uri in ["http://ada:1@a/", "http://bob:2@a/", "http://ada:1@a/"] {
        ask_for(&cached, "GET", uri, &[]).await;
    }
    for _ in 0..2 {
        ask_for(&cached, "GET", "/", &[("host", "evil.example@good.example")]).await;
    }
    assert_eq!(origin.calls(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_server_behind_tls_has_one_address_by_either_protocol() {
    let cache = HttpCache::builder("c", Kind::Shared).https().build();
    let origin = Origin::new(async |_, number| Ok(numbered(&[("cache-control", "max-age=60")], number)));
    let cached = behind(&cache, &origin);
    ask_for(&cached, "GET", "https://a/x", &[]).await;
    assert_eq!(ask_for(&cached, "GET", "/x", &[("host", "a")]).await.body, "answer 0");
    ask_for(&cached, "PUT", "/x", &[("host", "a")]).await;
    assert_eq!(ask_for(&cached, "GET", "https://a/x", &[]).await.body, "answer 2");
}

#[tokio::test(start_paused = true)]
async fn fields_of_a_whole_are_not_those_of_a_part_and_204_has_no_length() {
    let origin = Origin::always(&[("cache-control", "max-age=60"), ("content-digest", "sha-256=:abc=:")]);
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    let part = ask(&cached, "GET", &[("range", "bytes=0-1")]).await;
    assert_eq!((part.status(), part.field("content-digest")), (206, None));
    let origin = Origin::new(async |_, _| {
        Ok(response(204, &[("cache-control", "max-age=60"), ("content-length", "0")], ""))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    let hit = get(&cached).await;
    assert_eq!((origin.calls(), hit.status(), hit.field("content-length")), (1, 204, None));
}

#[tokio::test(start_paused = true)]
async fn only_if_cached_is_obeyed_where_nothing_stored_could_answer() {
    for extra in [("range", "bytes=0-1,3-4"), ("if-match", "\"1\"")] {
        let origin = Origin::always(&[("cache-control", "max-age=60")]);
        let cached = behind(&shared(), &origin);
        let answer = ask(&cached, "GET", &[("cache-control", "only-if-cached"), extra]).await;
        assert_eq!((answer.status(), origin.calls()), (504, 0), "{extra:?}");
    }
}

/// Readers and changes of one address, and everything let go again and again, on several threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_before_comes_back() {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
    let version = Arc::new(AtomicU64::new(0));
    let theirs = version.clone();
    let origin = Origin::new(move |_, _| {
        let now = theirs.load(SeqCst);
        async move {
            tokio::task::yield_now().await;
            Ok(response(200, &[("cache-control", "max-age=60")], now.to_string()))
        }
    });
    let cache = shared();
    let cached = behind(&cache, &origin);
    let changes = tokio::spawn({
        let (cache, version) = (cache.clone(), version.clone());
        async move {
            for n in 0..2_000 {
                version.fetch_add(1, SeqCst);
                if n % 2 == 0 {
                    cache.clear()
                } else {
                    cache.invalidate(&URI.parse().unwrap())
                }
                // From here on nobody may see an older one.
                let floor = version.load(SeqCst);
                let body = cache_get(&cached, n).await;
                assert!(body >= floor, "{body} after {floor}");
            }
        }
    });
    changes.await.unwrap();
}

async fn cache_get(cached: &support::Cached, callers: u64) -> u64 {
    let mut calls = JoinSet::new();
    for _ in 0..1 + callers % 4 {
        let call = cached.clone().oneshot(request("GET", URI, &[]));
        calls.spawn(async move { read(call.await.unwrap()).await.body.parse::<u64>().unwrap() });
    }
    calls.join_all().await.into_iter().min().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_not_the_target_s_has_nothing_stored_for_either() {
    let origin = Origin::new(async |request, _| {
        let host = request.headers["host"].to_str().unwrap().to_owned();
        Ok(response(200, &[("cache-control", "max-age=60")], host))
    });
    let cached = behind(&shared(), &origin);
    for host in ["evil.example", "upstream:80", "good.example", "evil.example"] {
        assert_eq!(ask_for(&cached, "GET", "http://upstream/", &[("host", host)]).await.body, host);
    }
    assert_eq!(origin.calls(), 4);
    ask_for(&cached, "GET", "http://upstream/", &[("host", "upstream")]).await;
    assert_eq!(origin.calls(), 4);
}
