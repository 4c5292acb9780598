//! What caches of the field did wrong: each is held to be right, as private and as shared cache.

mod support;

use std::time::Duration;

use support::{Origin, ask, behind, get, numbered, private, response, seconds, settle, shared};
use tokio::time::sleep;

#[tokio::test(start_paused = true)]
async fn regression_35_a_post_is_never_answered_from_the_store() {
    for cache in [private(), shared()] {
        let origin = Origin::always(&[("cache-control", "max-age=60"), ("etag", "\"1\"")]);
        let cached = behind(&cache, &origin);
        for number in 0..3 {
            assert_eq!(ask(&cached, "POST", &[]).await.body, format!("answer {number}"));
        }
        assert_eq!(get(&cached).await.body, "answer 3", "nor is its answer that of a GET");
        assert_eq!(ask(&cached, "POST", &[]).await.body, "answer 4");
    }
}

#[tokio::test(start_paused = true)]
async fn regression_35_all_vary_lines_and_all_lines_of_a_field_are_compared() {
    for cache in [private(), shared()] {
        let origin = Origin::new(async |_, number| {
            let mut response = numbered(&[("cache-control", "max-age=60"), ("vary", "a")], number);
            response.headers_mut().append("vary", "b".parse().unwrap());
            Ok(response)
        });
        let cached = behind(&cache, &origin);
        let lines: &[&[(&str, &str)]] = &[
            &[("a", "1"), ("b", "1")],
            &[("a", "1"), ("b", "2")],
            &[("a", "1"), ("a", "2"), ("b", "1")],
            &[("a", "1"), ("a", "3"), ("b", "1")],
            &[("a", "1")],
        ];
        for (number, lines) in lines.iter().enumerate() {
            assert_eq!(ask(&cached, "GET", lines).await.body, format!("answer {number}"));
        }
        for (number, lines) in lines.iter().enumerate() {
            assert_eq!(ask(&cached, "GET", lines).await.body, format!("answer {number}"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn regression_35_no_cache_is_validated_whatever_the_client_takes() {
    for cache in [private(), shared()] {
        let origin = Origin::always(&[("cache-control", "no-cache, max-age=60"), ("etag", "\"1\"")]);
        let cached = behind(&cache, &origin);
        for number in 0..3 {
            assert_eq!(
                ask(&cached, "GET", &[("cache-control", "max-stale=100")]).await.body,
                format!("answer {number}")
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn regression_35_a_range_is_not_answered_with_the_whole() {
    for cache in [private(), shared()] {
        let origin = Origin::always(&[("cache-control", "max-age=60")]);
        let cached = behind(&cache, &origin);
        get(&cached).await;
        let part = ask(&cached, "GET", &[("range", "bytes=0-1")]).await;
        assert_eq!(
            (part.status(), part.body.as_str(), part.field("content-range")),
            (206, "an", Some("bytes 0-1/8"))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn regression_35_another_authorization_has_its_own_answer() {
    for (cache, is_shared) in [(private(), false), (shared(), true)] {
        let origin = Origin::new(async |request, _| {
            let who =
                request.headers.get("authorization").map_or("nobody", |who| who.to_str().unwrap()).to_owned();
            Ok(response(200, &[("cache-control", "max-age=60")], who))
        });
        let cached = behind(&cache, &origin);
        for who in ["Bearer a", "Bearer b", "Bearer a"] {
            assert_eq!(ask(&cached, "GET", &[("authorization", who)]).await.body, who);
        }
        assert_eq!(get(&cached).await.body, "nobody");
        assert_eq!(origin.calls(), if is_shared { 4 } else { 3 });
    }
}

#[tokio::test(start_paused = true)]
async fn regression_35_stale_while_revalidate_is_obeyed() {
    for cache in [private(), shared()] {
        let origin = Origin::new(async |_, number| {
            sleep(Duration::from_secs(1)).await;
            Ok(numbered(&[("cache-control", "max-age=5, stale-while-revalidate=60")], number))
        });
        let cached = behind(&cache, &origin);
        get(&cached).await;
        seconds(10).await;
        let start = tokio::time::Instant::now();
        assert_eq!(get(&cached).await.body, "answer 0");
        assert_eq!(start.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(1)).await;
        settle().await;
        assert_eq!(get(&cached).await.body, "answer 1");
    }
}
