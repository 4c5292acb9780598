//! The protocol between the readers of a body, in all orders of their threads.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use loom::{future::block_on, sync::Mutex, thread};

use super::*;
use crate::budget::Budget;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(run);
}

/// A body of one part, which arrives when it is sent.
#[derive(Default)]
struct Wire {
    is_sent: bool,
    waker: Option<Waker>,
}

struct Arrives(Arc<Mutex<Wire>>, bool);

impl Body for Arrives {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.1 {
            return Poll::Ready(None);
        }
        let mut wire = self.0.lock().unwrap();
        if !wire.is_sent {
            wire.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(wire);
        self.1 = true;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"part")))))
    }
}

fn send(wire: &Mutex<Wire>) {
    let mut wire = wire.lock().unwrap();
    wire.is_sent = true;
    let waker = wire.waker.take();
    drop(wire);
    waker.into_iter().for_each(Waker::wake);
}

fn arriving() -> (Arc<Mutex<Wire>>, Arc<Growing>, Reader) {
    let wire = Arc::new(Mutex::new(Wire::default()));
    let taken = Arc::new(Budget::new(4)).take(4).unwrap();
    let source = Box::pin(Arrives(wire.clone(), false));
    let (growing, reader) = Growing::new(source, Limit::Exactly(4), taken);
    (wire, growing, reader)
}

fn next(reader: &mut Reader) -> Option<Bytes> {
    let frame = block_on(poll_fn(|cx| reader.poll_frame(cx)));
    frame.map(|frame| frame.unwrap().into_data().unwrap())
}

fn read(mut reader: Reader) {
    assert_eq!(next(&mut reader).unwrap(), "part");
    assert!(next(&mut reader).is_none());
}

#[test]
fn loom_all_readers_get_all_parts() {
    model(|| {
        let (wire, growing, first) = arriving();
        let second = growing.reader().unwrap();
        let reads = thread::spawn(move || read(second));
        let sends = thread::spawn(move || send(&wire));
        read(first);
        reads.join().unwrap();
        sends.join().unwrap();
    });
}

#[test]
fn loom_a_reader_that_stops_or_leaves_keeps_nobody_waiting() {
    for leaves in [false, true] {
        model(move || {
            let (wire, growing, mut first) = arriving();
            let second = growing.reader().unwrap();
            let stops = thread::spawn(move || {
                // It polls once, and is never polled again.
                let _ = first.poll_frame(&mut Context::from_waker(Waker::noop()));
                (!leaves).then_some(first)
            });
            let sends = thread::spawn(move || send(&wire));
            read(second);
            let _first = stops.join().unwrap();
            sends.join().unwrap();
        });
    }
}

#[test]
fn loom_what_all_leave_is_cut_once_and_what_one_reads_is_kept_once() {
    model(|| {
        let (wire, growing, first) = arriving();
        let second = growing.reader().unwrap();
        send(&wire);
        let kept = Arc::new(Mutex::new(Vec::new()));
        let theirs = kept.clone();
        growing.when_done(Box::new(move |done| theirs.lock().unwrap().push(matches!(done, Done::Whole(_)))));
        let leaves = thread::spawn(move || drop(first));
        let reads = thread::spawn(move || read(second));
        leaves.join().unwrap();
        reads.join().unwrap();
        assert_eq!(*kept.lock().unwrap(), [true]);
        assert!(growing.is_readable());
    });
    model(|| {
        let (_wire, growing, first) = arriving();
        let second = growing.reader().unwrap();
        let kept = Arc::new(Mutex::new(Vec::new()));
        let theirs = kept.clone();
        growing.when_done(Box::new(move |done| theirs.lock().unwrap().push(matches!(done, Done::Whole(_)))));
        let leaves = thread::spawn(move || drop(first));
        drop(second);
        leaves.join().unwrap();
        assert_eq!(*kept.lock().unwrap(), [false]);
        assert!(!growing.is_readable());
    });
}

#[test]
fn loom_what_is_to_be_done_is_done_once_however_quick_the_readers_are() {
    model(|| {
        let (wire, growing, first) = arriving();
        send(&wire);
        let reads = thread::spawn(move || read(first));
        let kept = Arc::new(Mutex::new(Vec::new()));
        let theirs = kept.clone();
        growing.when_done(Box::new(move |done| theirs.lock().unwrap().push(matches!(done, Done::Whole(_)))));
        reads.join().unwrap();
        assert_eq!(*kept.lock().unwrap(), [true]);
    });
}
