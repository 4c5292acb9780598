use std::sync::Arc;

use buttress_testkit::models::model;
use loom::thread;

use super::*;
use crate::sync::AtomicUsize;

const LIMIT: Duration = Duration::from_secs(10);

/// A command that has timed out, and is not answered.
fn unanswered() -> Arc<Ticket> {
    Ticket::new("GET".into(), &Arc::new(AtomicUsize::new(0))).0
}

/// It timed out when it was watched first; now something is answered while another one times out.
#[test]
fn loom_an_answer_breaks_the_silence() {
    let start = Instant::now();
    model(3, move || {
        let (silence, ticket) = (Arc::new(Silence::new(LIMIT)), unanswered());
        let watched = Arc::downgrade(&ticket);
        assert!(!silence.heard(&watched, start));
        let answered = {
            let silence = Arc::clone(&silence);
            thread::spawn(move || silence.broken())
        };
        let over = silence.heard(&watched, start + LIMIT);
        answered.join().unwrap();
        assert!(!silence.heard(&watched, start + LIMIT + LIMIT / 2), "not for that long again");
        // Told of before the answer, it was broken after that, and has begun anew just now.
        let whole = silence.heard(&watched, start + LIMIT * 2);
        assert!(!(over && whole), "it was broken in between");
    });
}

#[test]
fn loom_of_those_who_find_that_it_was_long_enough_one_is_told() {
    let start = Instant::now();
    model(3, move || {
        let (silence, ticket) = (Arc::new(Silence::new(LIMIT)), unanswered());
        assert!(!silence.heard(&Arc::downgrade(&ticket), start));
        let others = [(); 2].map(|()| {
            let (silence, watched) = (Arc::clone(&silence), Arc::downgrade(&ticket));
            thread::spawn(move || silence.heard(&watched, start + LIMIT))
        });
        let mine = silence.heard(&Arc::downgrade(&ticket), start + LIMIT);
        let told = others.map(|other| other.join().unwrap());
        assert_eq!(told.into_iter().filter(|told| *told).count() + usize::from(mine), 1);
    });
}
