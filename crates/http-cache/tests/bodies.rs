//! Bodies that arrive part by part.

mod support;

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use buttress_http_cache::{HttpCache, Kind};
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use support::{
    Got, Origin, Sender, URI, behind, get, part, private, request, settle, shared, streamed, with_body,
};
use tower::ServiceExt;

const LONG: &[(&str, &str)] = &[("cache-control", "max-age=60")];
const SIX: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("content-length", "6")];

type Senders = Arc<Mutex<Vec<Sender>>>;

/// An origin whose bodies the test sends.
fn streaming(headers: &'static [(&'static str, &'static str)]) -> (Origin, Senders) {
    let senders = Senders::default();
    let theirs = senders.clone();
    let origin = Origin::new(move |_, _| {
        let (sender, body) = streamed();
        theirs.lock().unwrap().push(sender);
        async move { Ok(with_body(200, headers, body)) }
    });
    (origin, senders)
}

async fn call(cached: &support::Cached) -> Got {
    cached.clone().oneshot(request("GET", URI, &[])).await.unwrap()
}

async fn next(body: &mut Got) -> String {
    let frame = body.body_mut().frame().await.unwrap().unwrap();
    String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_arrives_before_the_last_was_sent() {
    for (cache, headers) in [(private(), LONG), (shared(), LONG), (private(), SIX), (shared(), SIX)] {
        let (origin, senders) = streaming(headers);
        let cached = behind(&cache, &origin);
        let mut response = call(&cached).await;
        let sender = senders.lock().unwrap()[0].clone();
        sender.send(part("abc")).unwrap();
        assert_eq!(next(&mut response).await, "abc");
        assert_eq!(cache.stats().stored, 0);
        sender.send(part("def")).unwrap();
        senders.lock().unwrap().clear();
        drop(sender);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "def");
        assert_eq!(cache.stats().stored, 1);
        assert_eq!(get(&cached).await.body, "abcdef");
        assert_eq!(origin.calls(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_while_it_arrives_gets_each_part_at_once() {
    let (origin, senders) = streaming(SIX);
    let cached = behind(&shared(), &origin);
    let mut first = call(&cached).await;
    let sender = senders.lock().unwrap().remove(0);
    sender.send(part("abc")).unwrap();
    assert_eq!(next(&mut first).await, "abc");
    let mut second = call(&cached).await;
    assert_eq!(second.body().size_hint().exact(), Some(6));
    assert_eq!(next(&mut second).await, "abc");
    assert_eq!(second.body().size_hint().exact(), Some(3));
    // The first one does not read on, and the second one gets the rest all the same.
    sender.send(part("def")).unwrap();
    assert_eq!(next(&mut second).await, "def");
    drop(sender);
    assert!(second.body_mut().frame().await.is_none());
    assert_eq!(next(&mut first).await, "def");
    assert!(first.body_mut().frame().await.is_none());
    assert_eq!(origin.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_who_waits_is_served_though_the_others_stopped_reading_or_left() {
    for leaves in [false, true] {
        let (origin, senders) = streaming(SIX);
        let cached = behind(&shared(), &origin);
        let mut first = call(&cached).await;
        let mut second = call(&cached).await;
        let sender = senders.lock().unwrap().remove(0);
        // The first one has polled the source, and is woken for it.
        assert!(futures_poll(&mut first).is_pending());
        let waits = tokio::spawn(async move { (next(&mut second).await, second) });
        settle().await;
        let first = if leaves { None } else { Some(first) };
        sender.send(part("abc")).unwrap();
        let (got, _second) = tokio::time::timeout(Duration::from_secs(1), waits).await.unwrap().unwrap();
        assert_eq!(got, "abc");
        drop(first);
    }
}

fn futures_poll(response: &mut Got) -> Poll<Option<Result<Frame<Bytes>, buttress_http_cache::BodyError>>> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    Pin::new(response.body_mut()).poll_frame(&mut cx)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_cut_short_is_not_stored() {
    for headers in [LONG, SIX] {
        let cache = shared();
        let (origin, senders) = streaming(headers);
        let cached = behind(&cache, &origin);
        let mut first = call(&cached).await;
        let mut second = (headers == SIX).then_some(call(&cached)).map(Box::pin);
        let sender = senders.lock().unwrap().remove(0);
        sender.send(part("abc")).unwrap();
        assert_eq!(next(&mut first).await, "abc");
        sender.send(Err(io::Error::other("the connection was lost"))).unwrap();
        let error = first.body_mut().frame().await.unwrap().unwrap_err();
        assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "the connection was lost");
        assert_eq!((cache.stats().stored, cache.stats().cut, cache.stats().addresses), (0, 1, 0));
        if let Some(second) = second.take() {
            let mut second = second.await;
            // It came after the cut, and has a call of its own.
            senders.lock().unwrap().remove(0).send(part("ghijkl")).unwrap();
            assert_eq!(next(&mut second).await, "ghijkl");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_another_length_than_announced_is_not_stored() {
    for sent in ["abc", "abcdefghi"] {
        let cache = shared();
        let (origin, senders) = streaming(SIX);
        let cached = behind(&cache, &origin);
        let response = call(&cached).await;
        let sender = senders.lock().unwrap().remove(0);
        sender.send(part(sent)).unwrap();
        drop(sender);
        assert!(response.into_body().collect().await.is_err(), "nobody takes it for the whole");
        assert_eq!(cache.stats().stored, 0);
        assert_eq!(cache.stats().addresses, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_all_readers_left_is_not_stored() {
    let cache = shared();
    let (origin, senders) = streaming(SIX);
    let cached = behind(&cache, &origin);
    let mut first = call(&cached).await;
    let second = call(&cached).await;
    let sender = senders.lock().unwrap().remove(0);
    sender.send(part("abc")).unwrap();
    assert_eq!(next(&mut first).await, "abc");
    drop(first);
    assert!(!sender.is_closed(), "the second one wants it still");
    drop(second);
    assert!(sender.is_closed());
    assert_eq!((cache.stats().stored, cache.stats().addresses), (0, 0));
    drop(call(&cached).await);
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_large_body_passes_and_is_not_stored() {
    for headers in [LONG, SIX] {
        let cache = HttpCache::builder("c", Kind::Shared).max_body(5).build();
        let (origin, senders) = streaming(headers);
        let cached = behind(&cache, &origin);
        let mut response = call(&cached).await;
        let sender = senders.lock().unwrap().remove(0);
        for _ in 0..2 {
            sender.send(part("abc")).unwrap();
            assert_eq!(next(&mut response).await, "abc");
        }
        drop(sender);
        assert!(response.body_mut().frame().await.is_none());
        assert_eq!((cache.stats().stored, cache.stats().addresses), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn trailers_reach_the_caller() {
    let (origin, senders) = streaming(LONG);
    let cached = behind(&shared(), &origin);
    let response = call(&cached).await;
    let sender = senders.lock().unwrap().remove(0);
    sender.send(part("abc")).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("checksum", "7".parse().unwrap());
    sender.send(Ok(Frame::trailers(trailers))).unwrap();
    drop(sender);
    let collected = response.into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["checksum"], "7");
}

/// Panics at its second part.
struct Panics(u32);

impl Body for Panics {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0 += 1;
        assert!(self.0 < 2, "in a body");
        Poll::Ready(Some(part("abc")))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_cut_for_the_other_readers() {
    let cache = shared();
    let origin = Origin::new(async |_, _| Ok(with_body(200, SIX, Panics(0).boxed_unsync())));
    let cached = behind(&cache, &origin);
    let first = call(&cached).await;
    let mut second = call(&cached).await;
    let reads = tokio::spawn(first.into_body().collect());
    assert!(reads.await.unwrap_err().is_panic());
    assert_eq!(next(&mut second).await, "abc");
    assert!(second.body_mut().frame().await.unwrap().is_err());
    assert_eq!((cache.stats().stored, cache.stats().addresses), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_holds_no_larger_buffer() {
    // A part of a large buffer: the bound of the memory counts the part alone.
    let origin = Origin::new(async |_, _| {
        let buffer = Bytes::from(vec![7; 1 << 20]);
        Ok(support::response(200, &[("cache-control", "max-age=60")], buffer.slice(..10)))
    });
    let cache = shared();
    let cached = behind(&cache, &origin);
    let first = call(&cached).await.into_body().collect().await.unwrap().to_bytes();
    let second = call(&cached).await.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(first, second);
    assert_ne!(first.as_ptr(), second.as_ptr());
    assert!(cache.stats().weight < 2_000);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_at_the_announced_length_has_read_it_all() {
    let cache = shared();
    let (origin, senders) = streaming(SIX);
    let cached = behind(&cache, &origin);
    let mut response = call(&cached).await;
    senders.lock().unwrap()[0].send(part("abcdef")).unwrap();
    assert_eq!(next(&mut response).await, "abcdef");
    drop(response);
    assert_eq!((cache.stats().stored, cache.stats().addresses), (1, 1));
    assert_eq!(get(&cached).await.body, "abcdef");
    assert_eq!(origin.calls(), 1);
}
