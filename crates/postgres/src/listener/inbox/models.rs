//! The reader and the task wake each other, whatever comes first, and a call of `listen` undoes none but its own wish.

use std::future::poll_fn;

use buttress_testkit::models::model;
use loom::{future::block_on, thread};

use super::*;
use crate::session::Ear;

fn inbox(origin: Origin) -> (Arc<Inbox>, Delivery) {
    let inbox = Arc::new(Inbox::new(origin, Duration::from_secs(1), std::iter::empty()));
    (Arc::clone(&inbox), Delivery(inbox))
}

/// All that is heard until it is over.
fn read(inbox: &Inbox) -> usize {
    let mut heard = 0;
    while block_on(poll_fn(|cx| inbox.poll_next(cx))).is_some() {
        heard += 1;
    }
    heard
}

#[test]
fn loom_the_reader_is_told_what_was_missed_and_that_it_is_over() {
    let origin = Origin::new("postgres", "inbox");
    model(3, move || {
        let (inbox, delivery) = inbox(origin);
        let task = thread::spawn(move || {
            delivery.lose();
            delivery.find();
            drop(delivery);
        });
        assert_eq!(read(&inbox), 1);
        task.join().unwrap();
    });
}

#[test]
fn loom_a_task_that_waits_for_room_is_woken_when_there_is_some() {
    let origin = Origin::new("postgres", "inbox");
    model(2, move || {
        let (inbox, delivery) = inbox(origin);
        let task = thread::spawn(move || {
            for _ in 0..=MOST {
                block_on(poll_fn(|cx| delivery.poll_room(cx)));
                delivery.lose();
                delivery.find();
                assert!(delivery.0.unread() <= MOST);
            }
            drop(delivery);
        });
        assert_eq!(read(&inbox), MOST + 1);
        task.join().unwrap();
    });
}

fn channel() -> Channel {
    Channel::new("c").unwrap_or_else(|_| unreachable!("it is a name"))
}

#[test]
fn loom_a_channel_is_listened_to_where_the_last_call_wants_it() {
    let origin = Origin::new("postgres", "inbox");
    model(3, move || {
        let (inbox, _delivery) = inbox(origin);
        let gives_up = {
            let inbox = Arc::clone(&inbox);
            // Dropped before it is answered.
            thread::spawn(move || {
                let mut state = inbox.state();
                let wish = state.wish(&inbox, channel());
                drop(state);
                drop(wish);
            })
        };
        block_on(inbox.listen(channel())).unwrap();
        block_on(inbox.unlisten(channel())).unwrap();
        block_on(inbox.listen(channel())).unwrap();
        gives_up.join().unwrap();
        let state = inbox.state();
        let wanted = &state.wanted["c"];
        assert!(wanted.is_kept && wanted.unanswered == 0);
    });
}

#[test]
fn loom_two_calls_for_a_channel_of_which_one_is_given_up_leave_it_listened_to() {
    let origin = Origin::new("postgres", "inbox");
    model(3, move || {
        let (inbox, _delivery) = inbox(origin);
        let gives_up = {
            let inbox = Arc::clone(&inbox);
            thread::spawn(move || {
                let wish = inbox.state().wish(&inbox, channel());
                drop(wish);
            })
        };
        block_on(inbox.listen(channel())).unwrap();
        gives_up.join().unwrap();
        assert!(inbox.state().wanted["c"].is_kept);
        block_on(inbox.unlisten(channel())).unwrap();
        assert!(inbox.state().wanted.is_empty());
    });
}
