//! Callers and workers as they are, each on a thread of its own, in every order of the batcher's critical sections.

use std::{
    future::{Future, pending, poll_fn, ready},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use buttress_core::{BoxError, Origin, Reason};
use buttress_testkit::models::model;
use loom::{future::block_on, thread};

use super::*;
use crate::{ResponseFuture, gather::Entry, outcome::Outcome, rules::Limits};

type Results = Result<Vec<Result<u8, BoxError>>, BoxError>;
type Answers = Pin<Box<dyn Future<Output = Results> + Send>>;
type Batcher = Arc<Inner<Echo, u8, u8, BoxError>>;
type Call = ResponseFuture<Echo, Answers, u8, u8, BoxError>;

/// It is not answered as long as anybody waits for it.
const NEVER: u8 = 0;

#[derive(Clone)]
struct Echo {
    is_ready: bool,
}

impl Service<Vec<u8>> for Echo {
    type Response = Vec<Result<u8, BoxError>>;
    type Error = BoxError;
    type Future = Answers;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.is_ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, requests: Vec<u8>) -> Answers {
        if requests.contains(&NEVER) {
            return Box::pin(pending());
        }
        Box::pin(ready(Ok(requests.into_iter().map(Ok).collect())))
    }
}

fn batcher(origin: Origin, limits: Limits) -> Batcher {
    batcher_of(Echo { is_ready: true }, origin, limits)
}

fn batcher_of(service: Echo, origin: Origin, limits: Limits) -> Batcher {
    let rules = Rules { origin, limits, weigh: None, bisect: None, dedupe: None, share: None };
    Arc::new(Inner::new(service, rules))
}

fn call(batcher: &Batcher, request: u8) -> Call {
    ResponseFuture::new(Arc::clone(batcher), request)
}

fn poll_once(call: &mut Pin<&mut Call>) -> Poll<Result<u8, BoxError>> {
    call.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Somebody who goes by himself, so that whoever comes waits for a worker.
fn in_the_way(batcher: &Batcher) -> Pin<Box<Call>> {
    let mut alone = Box::pin(call(batcher, NEVER));
    assert!(poll_once(&mut alone.as_mut()).is_pending());
    alone
}

fn spawn(batcher: &Batcher, run: impl FnOnce(&Batcher) + 'static) -> thread::JoinHandle<()> {
    let batcher = Arc::clone(batcher);
    thread::spawn(move || run(&batcher))
}

fn close(batcher: &Batcher) {
    block_on(batcher.shared.close());
    assert_eq!(batcher.shared.stats().waiting, 0);
}

#[test]
fn loom_each_caller_gets_his_own_answer() {
    let origin = Origin::new("batch", "model");
    model(3, move || {
        let batcher = batcher(origin, Limits::DEFAULT);
        let other = spawn(&batcher, |batcher| assert_eq!(block_on(call(batcher, 7)).unwrap(), 7));
        assert_eq!(block_on(call(&batcher, 8)).unwrap(), 8);
        other.join().unwrap();
        close(&batcher);
        assert_eq!(batcher.shared.stats().items, 2);
    });
}

/// The worker may be about to end when the second one comes.
#[test]
fn loom_who_comes_when_the_worker_ends_is_not_left_waiting() {
    let origin = Origin::new("batch", "model");
    model(2, move || {
        let batcher = batcher(origin, Limits::DEFAULT);
        let alone = in_the_way(&batcher);
        let other = spawn(&batcher, |batcher| assert_eq!(block_on(call(batcher, 7)).unwrap(), 7));
        assert_eq!(block_on(call(&batcher, 8)).unwrap(), 8);
        drop(alone);
        other.join().unwrap();
        close(&batcher);
    });
}

/// There is room for one of the two that wait: the other is another worker's.
#[test]
fn loom_what_there_was_no_room_for_is_the_next_workers() {
    let origin = Origin::new("batch", "model");
    model(1, move || {
        let limits = Limits { size: 1, in_flight: 2, ..Limits::DEFAULT };
        let batcher = batcher(origin, limits);
        let alone = in_the_way(&batcher);
        let other = spawn(&batcher, |batcher| assert_eq!(block_on(call(batcher, 7)).unwrap(), 7));
        assert_eq!(block_on(call(&batcher, 8)).unwrap(), 8);
        drop(alone);
        other.join().unwrap();
        close(&batcher);
    });
}

#[test]
fn loom_who_goes_away_leaves_no_trace_and_harms_nobody() {
    let origin = Origin::new("batch", "model");
    model(2, move || {
        let batcher = batcher(origin, Limits::DEFAULT);
        let alone = in_the_way(&batcher);
        let other = spawn(&batcher, |batcher| {
            let mut goes = pin!(call(batcher, 7));
            let _answered = poll_once(&mut goes);
        });
        assert_eq!(block_on(call(&batcher, 8)).unwrap(), 8);
        drop(alone);
        other.join().unwrap();
        close(&batcher);
    });
}

/// The worker is in the middle of a call that would never end, or about to take what waits.
#[test]
fn loom_a_batch_whose_callers_have_gone_is_given_up() {
    let origin = Origin::new("batch", "model");
    model(4, move || {
        let batcher = batcher(origin, Limits::DEFAULT);
        let alone = in_the_way(&batcher);
        let other = spawn(&batcher, |batcher| {
            let mut goes = pin!(call(batcher, NEVER));
            assert!(poll_once(&mut goes).is_pending());
        });
        drop(alone);
        other.join().unwrap();
        close(&batcher);
    });
}

/// The service is not ready, and never will be.
#[test]
fn loom_a_worker_for_whom_nobody_waits_any_more_ends() {
    let origin = Origin::new("batch", "model");
    model(4, move || {
        let batcher = batcher_of(Echo { is_ready: false }, origin, Limits::DEFAULT);
        let alone = in_the_way(&batcher);
        let other = spawn(&batcher, |batcher| {
            let mut goes = pin!(call(batcher, 7));
            assert!(poll_once(&mut goes).is_pending());
        });
        drop(alone);
        other.join().unwrap();
        // Not closed, which would wake him too: loom sees whether a thread is left waiting.
        assert_eq!(batcher.shared.stats().waiting, 0);
    });
}

#[test]
fn loom_who_closes_waits_for_those_who_came_before_and_for_nobody_else() {
    let origin = Origin::new("batch", "model");
    model(3, move || {
        let batcher = batcher(origin, Limits::DEFAULT);
        let other = spawn(&batcher, |batcher| match block_on(call(batcher, 7)) {
            Ok(answer) => assert_eq!(answer, 7),
            Err(error) => {
                let rejected = error.rejected().map(buttress_core::Rejected::reason);
                assert_eq!(rejected, Some(Reason::Closed));
            }
        });
        let another = spawn(&batcher, close);
        close(&batcher);
        let refused = block_on(call(&batcher, 9)).unwrap_err();
        assert!(refused.rejected().is_some());
        other.join().unwrap();
        another.join().unwrap();
    });
}

/// Where the runtime is gone, a worker is dropped before it has done anything.
#[test]
fn loom_nobody_waits_for_a_worker_that_was_lost() {
    let origin = Origin::new("batch", "model");
    model(4, move || {
        let batcher = batcher(origin, Limits::DEFAULT);
        let alone = in_the_way(&batcher);
        let wait = |batcher: &Batcher| {
            let mut seat = None;
            let outcome = block_on(poll_fn(|cx| {
                let shared = &batcher.shared;
                let key = *seat.get_or_insert_with(|| match shared.enter(7, 1, None, cx.waker()) {
                    Entry::Wait { key, begin, .. } => {
                        begin.into_iter().for_each(|number| drop(Worker::new(Arc::clone(batcher), number)));
                        key
                    }
                    _ => unreachable!("somebody is in the way"),
                });
                shared.look(key, cx.waker()).map_or(Poll::Pending, Poll::Ready)
            }));
            assert!(matches!(outcome, Outcome::Rejected(why) if why.reason() == Reason::BatchFailed));
        };
        let other = spawn(&batcher, wait);
        wait(&batcher);
        other.join().unwrap();
        drop(alone);
        close(&batcher);
    });
}
