//! Requests for the same address at the same time.

mod support;

use std::time::Duration;

use buttress_core::{Deadline, Reason, Rejectable};
use support::{
    Origin, Read, URI, ask, behind, get, numbered, part, private, read, request, response, settle, shared,
    streamed, with_body,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tower::ServiceExt;

/// Answers after a second.
fn slow(headers: &'static [(&'static str, &'static str)]) -> Origin {
    Origin::new(move |_, number| async move {
        sleep(Duration::from_secs(1)).await;
        Ok(numbered(headers, number))
    })
}

async fn all(
    cached: &support::Cached,
    callers: usize,
    headers: &'static [(&'static str, &'static str)],
) -> Vec<Read> {
    let mut calls = JoinSet::new();
    for _ in 0..callers {
        let cached = cached.clone();
        calls.spawn(async move { ask(&cached, "GET", headers).await });
    }
    calls.join_all().await
}

#[tokio::test(start_paused = true)]
async fn sixty_four_callers_make_one_call() {
    for cache in [private(), shared()] {
        let origin = slow(&[("cache-control", "max-age=60")]);
        let cached = behind(&cache, &origin);
        let answers = all(&cached, 64, &[]).await;
        assert!(answers.iter().all(|answer| answer.body == "answer 0"));
        let collapsed =
            answers.iter().filter(|answer| answer.cache_status() == "c;fwd=uri-miss;ttl=59;collapsed");
        // The second that it took counts as age.
        assert_eq!(collapsed.count(), 63, "{}", answers[1].cache_status());
        assert_eq!((origin.calls(), cache.stats().collapsed), (1, 63));
    }
}

#[tokio::test(start_paused = true)]
async fn validations_are_one_call_too() {
    let origin = Origin::new(async |request, number| {
        sleep(Duration::from_secs(1)).await;
        if request.headers.contains_key("if-none-match") {
            return Ok(response(304, &[("etag", "\"1\"")], ""));
        }
        Ok(numbered(&[("cache-control", "max-age=10"), ("etag", "\"1\"")], number))
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    sleep(Duration::from_secs(10)).await;
    let answers = all(&cached, 64, &[]).await;
    assert!(answers.iter().all(|answer| answer.body == "answer 0"));
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_for_one_alone_is_given_to_one_and_nobody_waits_for_another() {
    for directives in
        [&[("cache-control", "no-store")], &[("cache-control", "private")], &[("cache-control", "no-cache")]]
    {
        let origin = slow(directives);
        let cached = behind(&shared(), &origin);
        let start = Instant::now();
        let mut bodies: Vec<_> = all(&cached, 64, &[]).await.into_iter().map(|answer| answer.body).collect();
        bodies.sort();
        bodies.dedup();
        assert_eq!(bodies.len(), 64);
        assert_eq!(start.elapsed().as_secs(), 2, "the first one's second, and that of all others");
        // From now on none waits.
        let start = Instant::now();
        all(&cached, 64, &[]).await;
        let one = if directives[0].1 == "no-cache" { 2 } else { 1 };
        assert!(start.elapsed().as_secs() <= one, "{directives:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_judges_the_answer_for_his_own_fields() {
    let origin = Origin::new(async |request, _| {
        sleep(Duration::from_secs(1)).await;
        let who = request.headers.get("x").map_or("nobody", |who| who.to_str().unwrap()).to_owned();
        Ok(response(200, &[("cache-control", "max-age=60"), ("vary", "x")], who))
    });
    let cached = behind(&shared(), &origin);
    let (ada, bob, eve) = tokio::join!(
        ask(&cached, "GET", &[("x", "ada")]),
        ask(&cached, "GET", &[("x", "bob")]),
        ask(&cached, "GET", &[("x", "ada")])
    );
    assert_eq!((ada.body.as_str(), bob.body.as_str(), eve.body.as_str()), ("ada", "bob", "ada"));
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn principals_of_a_private_cache_are_not_mixed_up() {
    let origin = Origin::new(async |request, _| {
        sleep(Duration::from_secs(1)).await;
        let who =
            request.headers.get("authorization").map_or("nobody", |who| who.to_str().unwrap()).to_owned();
        Ok(response(200, &[("cache-control", "max-age=60")], who))
    });
    let cached = behind(&private(), &origin);
    let (ada, bob, nobody) = tokio::join!(
        ask(&cached, "GET", &[("authorization", "ada")]),
        ask(&cached, "GET", &[("authorization", "bob")]),
        get(&cached)
    );
    assert_eq!((ada.body.as_str(), bob.body.as_str(), nobody.body.as_str()), ("ada", "bob", "nobody"));
    assert_eq!(ask(&cached, "GET", &[("authorization", "bob")]).await.body, "bob");
    assert_eq!(get(&cached).await.body, "nobody");
    assert_eq!(origin.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_leader_who_leaves_hands_over() {
    let origin = slow(&[("cache-control", "max-age=60")]);
    let cached = behind(&shared(), &origin);
    let leader = tokio::spawn(cached.clone().oneshot(request("GET", URI, &[])));
    settle().await;
    let follower = tokio::spawn({
        let cached = cached.clone();
        async move { get(&cached).await }
    });
    settle().await;
    leader.abort();
    assert_eq!(follower.await.unwrap().body, "answer 1");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_who_waited_for_a_failure_are_told() {
    let origin = Origin::new(async |_, _| {
        sleep(Duration::from_secs(1)).await;
        Err("away".into())
    });
    let cached = behind(&shared(), &origin);
    let call = || cached.clone().oneshot(request("GET", URI, &[]));
    let (first, second) = tokio::join!(call(), call());
    assert!(matches!(first.unwrap_err(), support::Failure::Away("away")));
    let rejected = *second.unwrap_err().rejected().unwrap();
    assert_eq!((rejected.reason(), rejected.sent()), (Reason::LoadFailed, true));
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_does_so_until_his_deadline() {
    let origin = slow(&[("cache-control", "max-age=60")]);
    let cached = behind(&shared(), &origin);
    let leader = tokio::spawn(cached.clone().oneshot(request("GET", URI, &[])));
    settle().await;
    let call = cached.clone().oneshot(request("GET", URI, &[]));
    let error = Deadline::after(Duration::from_millis(100)).scope(call).await.unwrap_err();
    assert_eq!(error.rejected().unwrap().reason(), Reason::DeadlineExceeded);
    assert!(leader.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_is_for_others_when_it_is_whole_and_they_wait_five_seconds() {
    let (sender, body) = streamed();
    let body = std::sync::Mutex::new(Some(body));
    let origin = Origin::new(move |_, number| {
        let body = body.lock().unwrap().take();
        async move {
            Ok(match body {
                Some(body) => with_body(200, &[("cache-control", "max-age=60")], body),
                None => numbered(&[("cache-control", "max-age=60")], number),
            })
        }
    });
    let cached = behind(&shared(), &origin);
    let first = cached.clone().oneshot(request("GET", URI, &[])).await.unwrap();
    let reads = tokio::spawn(read(first));
    let second = tokio::spawn({
        let cached = cached.clone();
        async move { get(&cached).await }
    });
    sender.send(part("abc")).unwrap();
    sleep(Duration::from_secs(3)).await;
    assert!(!second.is_finished());
    let impatient = tokio::spawn({
        let cached = cached.clone();
        async move { get(&cached).await }
    });
    sleep(Duration::from_secs(1)).await;
    drop(sender);
    assert_eq!(reads.await.unwrap().body, "abc");
    assert_eq!((second.await.unwrap().body.as_str(), impatient.await.unwrap().body.as_str()), ("abc", "abc"));
    assert_eq!(origin.calls(), 1);

    let endless = Origin::new(async |_, number| {
        let (sender, body) = streamed();
        tokio::spawn(async move {
            sender.send(part("abc")).unwrap();
            sender.closed().await;
        });
        Ok(with_body(
            200,
            &[("cache-control", "max-age=60"), ("x", if number == 0 { "0" } else { "1" })],
            body,
        ))
    });
    let cached = behind(&shared(), &endless);
    let _first = cached.clone().oneshot(request("GET", URI, &[])).await.unwrap();
    let second = timeout(Duration::from_secs(6), cached.clone().oneshot(request("GET", URI, &[]))).await;
    assert_eq!(second.unwrap().unwrap().headers()["x"], "1");
}

#[tokio::test(start_paused = true)]
async fn a_range_and_a_wish_for_the_service_s_word_are_not_collapsed() {
    let origin = slow(&[("cache-control", "max-age=60")]);
    let cached = behind(&shared(), &origin);
    all(&cached, 4, &[("range", "bytes=0-1")]).await;
    assert_eq!(origin.calls(), 4);
    all(&cached, 4, &[("cache-control", "no-cache")]).await;
    assert_eq!(origin.calls(), 8);
}
