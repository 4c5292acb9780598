//! Bodies that stall, end never or are cut, and readers who stop.

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use buttress_http_cache::{HttpCache, Kind};
use support::{
    Origin, Sender, URI, ask, behind, get, numbered, part, private, read, request, response, seconds, settle,
    shared, streamed, with_body,
};
use tokio::time::{Instant, sleep, timeout};
use tower::ServiceExt;

const SIX: &[(&str, &str)] = &[("cache-control", "max-age=86400"), ("content-length", "6")];

/// An origin whose bodies the test sends.
fn streaming(headers: &'static [(&'static str, &'static str)]) -> (Origin, Arc<Mutex<Vec<Sender>>>) {
    let senders = Arc::<Mutex<Vec<Sender>>>::default();
    let theirs = senders.clone();
    let origin = Origin::new(move |_, _| {
        let (sender, body) = streamed();
        theirs.lock().unwrap().push(sender);
        async move { Ok(with_body(200, headers, body)) }
    });
    (origin, senders)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_joined_by_nobody_after_a_while() {
    let (origin, senders) = streaming(SIX);
    let cached = behind(&shared(), &origin);
    let _first = cached.clone().oneshot(request("GET", URI, &[])).await.unwrap();
    senders.lock().unwrap()[0].send(part("abc")).unwrap();
    sleep(Duration::from_secs(6)).await;
    let second = cached.clone().oneshot(request("GET", URI, &[])).await.unwrap();
    senders.lock().unwrap().remove(1).send(part("abcdef")).unwrap();
    assert_eq!(timeout(Duration::from_secs(1), read(second)).await.unwrap().body, "abcdef");
    assert_eq!(get(&cached).await.body, "abcdef");
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_stops_costs_the_others_five_seconds_once() {
    let (origin, senders) = streaming(&[("cache-control", "no-cache"), ("etag", "\"1\"")]);
    let cached = behind(&shared(), &origin);
    let _stops = cached.clone().oneshot(request("GET", URI, &[])).await.unwrap();
    let mut waited = Vec::new();
    for number in 1..5 {
        let start = Instant::now();
        let next = cached.clone().oneshot(request("GET", URI, &[])).await.unwrap();
        waited.push(start.elapsed().as_secs());
        let sender = senders.lock().unwrap()[number].clone();
        sender.send(part("abc")).unwrap();
        senders.lock().unwrap()[number] = streamed().0;
        drop(sender);
        assert_eq!(read(next).await.body, "abc");
    }
    assert_eq!(waited, [5, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn the_stream_of_one_user_keeps_no_other_waiting_in_a_private_cache() {
    let (origin, _senders) = streaming(&[("cache-control", "max-age=60")]);
    let cached = behind(&private(), &origin);
    let call = async |who: &str| {
        let call = cached.clone().oneshot(request("GET", URI, &[("authorization", who)]));
        timeout(Duration::from_secs(1), call).await.is_ok()
    };
    assert!(call("ada").await && call("bob").await);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_without_end_that_is_not_stored_is_not_read() {
    let senders = Arc::<Mutex<Vec<Sender>>>::default();
    let theirs = senders.clone();
    let origin = Origin::new(move |_, number| {
        let (sender, body) = streamed();
        theirs.lock().unwrap().push(sender);
        async move {
            Ok(match number {
                0 => numbered(&[("cache-control", "max-age=10, stale-while-revalidate=300")], 0),
                _ => with_body(200, &[("cache-control", "no-store")], body),
            })
        }
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(15).await;
    get(&cached).await;
    settle().await;
    assert!(senders.lock().unwrap()[1].is_closed());
}

#[tokio::test(start_paused = true)]
async fn a_refresh_whose_body_is_cut_leaves_the_stale_response() {
    let headers: &[_] = &[
        ("cache-control", "max-age=10, stale-while-revalidate=300, stale-if-error=300"),
        ("content-length", "8"),
    ];
    let origin = Origin::new(move |_, number| async move {
        match number {
            0 => Ok(numbered(headers, 0)),
            1 => {
                let (sender, body) = streamed();
                sender.send(part("answ")).unwrap();
                sender.send(Err(std::io::Error::other("cut"))).unwrap();
                Ok(with_body(200, headers, body))
            }
            _ => Err("away".into()),
        }
    });
    let cached = behind(&shared(), &origin);
    get(&cached).await;
    seconds(15).await;
    for _ in 0..3 {
        assert_eq!(get(&cached).await.body, "answer 0");
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_older_response_that_ends_later_does_not_take_the_place_of_a_newer_one() {
    let (sender, body) = streamed();
    let body = Mutex::new(Some(body));
    let origin = Origin::new(move |_, _| {
        let body = body.lock().unwrap().take();
        async move {
            let headers = [("cache-control", "max-age=60")];
            Ok(match body {
                Some(body) => with_body(200, &headers, body),
                None => response(200, &headers, "newer"),
            })
        }
    });
    let cached = behind(&shared(), &origin);
    let first = cached.clone().oneshot(request("GET", URI, &[])).await.unwrap();
    let old = tokio::spawn(read(first));
    sender.send(part("older")).unwrap();
    settle().await;
    assert_eq!(ask(&cached, "GET", &[("cache-control", "no-cache")]).await.body, "newer");
    drop(sender);
    assert_eq!(old.await.unwrap().body, "older");
    assert_eq!(get(&cached).await.body, "newer");
}

#[tokio::test(start_paused = true)]
async fn bodies_on_their_way_are_bounded_together() {
    let cache = HttpCache::builder("c", Kind::Shared).max_weight(1 << 20).build();
    let (origin, _senders) = streaming(&[("cache-control", "max-age=60"), ("content-length", "300000")]);
    let cached = behind(&cache, &origin);
    let mut held = Vec::new();
    for number in 0..10 {
        let uri = format!("http://a/{number}");
        held.push(cached.clone().oneshot(request("GET", &uri, &[])).await.unwrap());
    }
    let stored = held
        .iter()
        .filter(|response| response.headers()["cache-status"].to_str().unwrap().ends_with("detail=no-room"));
    assert_eq!(stored.count(), 7);
}
