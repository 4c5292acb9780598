//! The protocols between a client's calls, its connections and whoever closes some of them, in all orders of two or three
//! threads.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use loom::{future::block_on, thread};
use tokio::time::Instant;

use crate::{
    calls::Calls,
    due::Due,
    exchanges::Exchanges,
    left::Left,
    orders::Orders,
    sync::{AtomicU64, Mutex, SeqCst},
    upload::{Progress, Turn},
    wanted::Wanted,
};

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

#[test]
fn loom_who_ends_the_last_thing_on_a_connection_finds_it_idle() {
    for http2 in [false, true] {
        model(move || {
            let exchanges = Arc::new(Exchanges::new(http2, true, 0));
            exchanges.begin();
            exchanges.answered();
            let number = exchanges.begun();
            let other = exchanges.clone();
            let releases = thread::spawn(move || other.release());
            let ended = exchanges.end(number, 7);
            assert!(releases.join().unwrap() || ended);
            assert_eq!(exchanges.idle_after(), Some(1));
        });
    }
}

#[test]
fn loom_of_two_answers_on_one_connection_the_last_to_end_finds_it_idle() {
    model(|| {
        let exchanges = Arc::new(Exchanges::new(true, false, 0));
        exchanges.answered();
        exchanges.answered();
        let other = exchanges.clone();
        let ends = thread::spawn(move || other.end(2, 7));
        let ended = exchanges.end(2, 7);
        assert!(ends.join().unwrap() || ended);
        assert!(exchanges.is_idle());
    });
}

#[test]
fn loom_who_sees_a_connection_idle_knows_since_when() {
    model(|| {
        let exchanges = Arc::new(Exchanges::new(false, false, 0));
        exchanges.begin();
        let other = exchanges.clone();
        let ends = thread::spawn(move || other.end(1, 7));
        if exchanges.is_idle() {
            assert_eq!(exchanges.idle_since(), 7);
        }
        ends.join().unwrap();
    });
}

/// Whoever wants a place raises `Wanted` before he looks, and whoever becomes idle looks at it after that.
#[test]
fn loom_a_connection_that_becomes_idle_while_one_is_wanted_is_closed() {
    model(|| {
        let exchanges = Arc::new(Exchanges::new(false, false, 0));
        let wanted = Arc::new(Wanted::new());
        let closed = Arc::new(Mutex::new(0));
        exchanges.begin();
        let feed = |exchanges: &Exchanges, wanted: &Wanted, closed: &mut u32| {
            wanted.raise();
            let is_there = exchanges.is_idle() && *closed == 0;
            *closed += u32::from(is_there);
            wanted.set(*closed == 0);
        };
        let (others, his, book) = (exchanges.clone(), wanted.clone(), closed.clone());
        let ends = thread::spawn(move || {
            if others.end(1, 7) && his.is_raised() {
                feed(&others, &his, &mut book.lock().unwrap());
            }
        });
        feed(&exchanges, &wanted, &mut closed.lock().unwrap());
        ends.join().unwrap();
        assert_eq!(*closed.lock().unwrap(), 1);
    });
}

#[test]
fn loom_a_cut_wakes_the_stream_or_is_seen_by_it() {
    model(|| {
        let orders = Arc::new(Orders::new());
        let other = orders.clone();
        let cuts = thread::spawn(move || {
            other.give_up();
            other.cut();
        });
        block_on(poll_fn(|cx| {
            orders.wake(cx.waker());
            if orders.is_cut() { Poll::Ready(()) } else { Poll::Pending }
        }));
        assert!(orders.is_given_up() && orders.are_to_close());
        cuts.join().unwrap();
    });
}

#[test]
fn loom_whoever_closes_sees_the_calls_that_were_let_in_and_hears_of_the_last() {
    model(|| {
        let calls = Arc::new(Calls::new());
        let inside = Arc::new(AtomicU64::new(0));
        let callers: Vec<_> = (0..2)
            .map(|_| {
                let (calls, inside) = (calls.clone(), inside.clone());
                thread::spawn(move || {
                    let is_let_in = calls.enter();
                    if is_let_in {
                        inside.fetch_add(1, SeqCst);
                        inside.fetch_sub(1, SeqCst);
                    }
                    calls.leave();
                })
            })
            .collect();
        calls.close();
        // As `HttpClient::close` does.
        block_on(async {
            loop {
                let mut changed = pin!(calls.changed.notified());
                changed.as_mut().enable();
                if calls.count() == 0 {
                    break;
                }
                changed.await;
            }
        });
        assert_eq!(inside.load(SeqCst), 0);
        assert!(!calls.enter());
        for caller in callers {
            caller.join().unwrap();
        }
    });
}

#[test]
fn loom_what_an_ended_runtime_leaves_is_taken_once_and_never_forgotten() {
    model(|| {
        let left = Arc::new(Left::default());
        // How often it has moved, when it last looked.
        let moved = Arc::new(AtomicU64::new(0));
        let (others, its) = (left.clone(), moved.clone());
        let leaves = thread::spawn(move || others.leave(its.load(SeqCst)));
        let go_on = |left: &Left<u64>, moved: &AtomicU64| {
            if !left.may_be_there() {
                return 0;
            }
            let tasks = left.take();
            moved.fetch_add(1, SeqCst);
            // Its timer is made anew.
            assert!(tasks.iter().all(|seen| moved.load(SeqCst) != *seen));
            tasks.len()
        };
        let (others, its) = (left.clone(), moved.clone());
        let goes_on = thread::spawn(move || go_on(&others, &its));
        let mine = go_on(&left, &moved);
        leaves.join().unwrap();
        let theirs = goes_on.join().unwrap();
        assert_eq!(mine + theirs + go_on(&left, &moved), 1);
    });
}

#[test]
fn loom_the_task_that_closes_idle_connections_hears_of_the_latest_time() {
    model(|| {
        let due = Arc::new(Due::new());
        let others: Vec<_> = [3, 5]
            .into_iter()
            .map(|until| {
                let due = due.clone();
                thread::spawn(move || due.note(until))
            })
            .collect();
        let mut latest = 0;
        block_on(poll_fn(|cx| {
            due.wake(cx.waker());
            latest = due.take().map_or(latest, |until: u32| until.max(latest));
            if latest == 5 { Poll::Ready(()) } else { Poll::Pending }
        }));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

#[test]
fn loom_who_knows_that_a_piece_was_taken_knows_when() {
    let began = Instant::now();
    let taken = began + Duration::from_nanos(5);
    model(move || {
        let progress = Arc::new(Progress::new());
        let other = progress.clone();
        let uploads = thread::spawn(move || {
            other.note(began);
            other.note(taken);
        });
        if let (1.., since) = progress.read() {
            assert!(since.is_some());
        }
        uploads.join().unwrap();
        assert!(matches!(progress.turn(), Turn::Servers(Some(last)) if last == taken));
    });
}
