//! Bodies of requests and their copies.

mod pieces;

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use buttress_core::BoxError;
use buttress_http::Body;
use bytes::Bytes;
use futures_util::Stream;
use http_body::Body as HttpBody;
use pieces::{KEPT, Piece, data, next, pieces, rest, trailers};

#[test]
fn a_held_body_is_copied_at_any_size_without_copying_bytes() {
    let bytes = Bytes::from(vec![7; 1 << 20]);
    let body = Body::from(bytes.clone());
    let mut copy = body.try_clone().unwrap();
    assert!(body.is_held() && copy.is_held() && copy.can_replay());
    assert_eq!(copy.size_hint().exact(), Some(1 << 20));
    let Some(Ok(Piece::Data(sent))) = next(&mut copy) else { panic!("there is data") };
    assert_eq!((sent.as_ptr(), sent.len()), (bytes.as_ptr(), bytes.len()));
    assert!(copy.is_end_stream() && next(&mut copy).is_none());
    assert!(Body::empty().is_end_stream() && Body::default().size_hint().exact() == Some(0));
}

#[test]
fn a_copy_sends_what_was_kept_without_copying_it_and_goes_on_where_the_first_attempt_stopped() {
    let all = [data(30_000, 1), data(30_000, 2), data(200_000, 3), trailers()];
    for slow in [false, true] {
        let (mut first, _) = pieces(all.clone(), slow);
        let mut copy = first.try_clone().unwrap();
        assert_eq!(next(&mut first), Some(Ok(all[0].clone())));
        let Some(Ok(Piece::Data(sent))) = next(&mut first) else { panic!("there is data") };
        drop(first);
        assert!(copy.can_replay());
        assert_eq!(copy.size_hint().exact(), Some(260_000), "both attempts announce the same length");
        assert_eq!(next(&mut copy), Some(Ok(all[0].clone())));
        let Some(Ok(Piece::Data(again))) = next(&mut copy) else { panic!("there is data") };
        assert_eq!(again.as_ptr(), sent.as_ptr());
        assert_eq!(rest(&mut copy).unwrap(), all[2..]);
    }
}

#[test]
fn what_is_longer_than_what_is_kept_is_sent_whole_and_only_once() {
    for (length, replayed) in [(KEPT, true), (KEPT + 1, false)] {
        let (mut first, _) = pieces([data(length - 1, 1), data(64, 2)], false);
        let mut short = pieces([data(length, 1)], false).0;
        let (copy, mut short_copy) = (first.try_clone().unwrap(), short.try_clone().unwrap());
        assert_eq!(rest(&mut first).unwrap().len(), 2);
        assert!(!copy.can_replay() && copy.try_clone().is_none());
        assert_eq!(rest(&mut short).unwrap().len(), 1);
        assert_eq!(short_copy.can_replay(), replayed);
        match rest(&mut short_copy) {
            Ok(sent) => assert!(replayed && sent == [data(length, 1)]),
            Err(error) => assert!(!replayed && error.contains("longer than what is kept"), "{error}"),
        }
    }
}

#[test]
fn many_small_pieces_are_bounded_by_their_number() {
    let (mut first, _) = pieces((0..1025).map(|_| data(1, 1)), false);
    let copy = first.try_clone().unwrap();
    for _ in 0..1024 {
        next(&mut first).unwrap().unwrap();
    }
    assert!(copy.can_replay());
    next(&mut first).unwrap().unwrap();
    assert!(!copy.can_replay());
}

#[test]
fn a_stream_that_failed_is_not_sent_again_and_says_so() {
    let (mut first, alive) = pieces([data(10, 1), Piece::Error, data(10, 2)], false);
    let mut copy = first.try_clone().unwrap();
    assert!(rest(&mut first).unwrap_err().contains("the disk is gone"));
    assert!(!copy.can_replay() && copy.try_clone().is_none());
    assert!(rest(&mut copy).unwrap_err().contains("has failed before"));
    assert_eq!(alive.strong_count(), 0, "nobody reads it any more");
}

#[test]
fn a_stream_that_panicked_is_not_sent_again_and_harms_nothing_else() {
    struct Panics;
    impl Stream for Panics {
        type Item = Result<Bytes, BoxError>;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            panic!("a user's mistake")
        }
    }
    let mut first = Body::stream(Panics);
    let mut copy = first.try_clone().unwrap();
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| next(&mut first))).is_err());
    drop(first);
    assert!(!copy.can_replay());
    assert!(rest(&mut copy).unwrap_err().contains("has failed before"));
}

#[test]
fn an_attempt_that_begins_takes_the_stream_over_and_wakes_who_waited_for_it() {
    struct Woken(Mutex<u32>);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            *self.0.lock().unwrap() += 1;
        }
    }
    let (mut first, _) = pieces([data(10, 1), data(10, 2), data(10, 3)], true);
    let mut second = first.try_clone().unwrap();
    assert_eq!(next(&mut first), Some(Ok(data(10, 1))));
    let woken = Arc::new(Woken(Mutex::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    assert!(pin!(&mut first).poll_frame(&mut Context::from_waker(&waker)).is_pending());
    *woken.0.lock().unwrap() = 0;
    assert_eq!(next(&mut second), Some(Ok(data(10, 1))));
    assert_eq!(*woken.0.lock().unwrap(), 1);
    assert!(next(&mut first).unwrap().unwrap_err().contains("a later attempt has taken over"));
    assert_eq!(rest(&mut second).unwrap(), [data(10, 2), data(10, 3)]);
}

#[test]
fn nothing_is_kept_where_no_copy_can_come() {
    let piece = Bytes::from(vec![1; 1000]);
    let alone = |body: &mut Body| {
        while let Some(sent) = next(body) {
            drop(sent);
            assert!(body.try_clone().is_none(), "its start is gone");
        }
    };
    let (mut body, _) = pieces((0..4).map(|_| Piece::Data(piece.clone())), false);
    let copy = body.try_clone().unwrap();
    next(&mut body).unwrap().unwrap();
    next(&mut body).unwrap().unwrap();
    drop(body);
    let mut body = copy;
    alone(&mut body);
    // `piece` is the last one that holds the bytes.
    assert!(piece.is_unique());
}

#[test]
fn debug_shows_the_length_and_nothing_else() {
    let secret = "hunter2";
    assert_eq!(format!("{:?}", Body::from(secret)), "Body { length: Some(7) }");
    struct Nothing;
    impl Stream for Nothing {
        type Item = Result<Vec<u8>, std::io::Error>;
        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(None)
        }
    }
    assert_eq!(format!("{:?}", Body::stream(Nothing)), "Body { length: None }");
    fn is_send_and_sync<T: Send + Sync + Unpin>() {}
    is_send_and_sync::<Body>();
}
