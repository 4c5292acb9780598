//! Who waits, who gives units back and who restricts, in all orders of two threads.

use std::task::Poll;

use loom::{future::block_on, sync::Arc, thread};

use super::*;

const LATER: u64 = 1 << 40;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

/// So many units, which come back only when they are given back.
struct Units(AtomicU64);

impl Source for Units {
    fn take(&self, _: Whose, units: u32, _: u64, _: u64) -> Result<(), Wait> {
        let less = |left: u64| left.checked_sub(units.into());
        self.0.fetch_update(Relaxed, Relaxed, less).map(drop).map_err(|_| Some(1_000))
    }

    fn wait(&self, _: Whose, units: u64, _: u64) -> u64 {
        if self.0.load(Relaxed) >= units { 0 } else { 1_000 }
    }

    fn give_back(&self, _: Whose, units: u32, _: u64, _: u64) {
        self.0.fetch_add(units.into(), Relaxed);
    }
}

fn nobody(units: u64) -> (Arc<Places>, Arc<Units>) {
    (Arc::new(Places::new()), Arc::new(Units(AtomicU64::new(units))))
}

/// Looks until it is granted; nothing but a wake-up has it look again.
fn wait(places: &Places, units: &Units, id: u64) {
    block_on(std::future::poll_fn(|cx| match places.look(units, None, id, cx.waker(), 1, LATER) {
        Standing::Granted(_) => Poll::Ready(()),
        Standing::Waits(_) => Poll::Pending,
        other => panic!("it can wait for ever: {other:?}"),
    }));
}

#[test]
fn loom_a_unit_that_comes_back_finds_the_one_who_begins_to_wait() {
    model(|| {
        let (places, units) = nobody(0);
        let (others, theirs) = (places.clone(), units.clone());
        let gives = thread::spawn(move || others.give_back(&*theirs, None, 1, 1, 1));
        match places.enter(&*units, None, 1, 1, LATER) {
            Entered::Through => {}
            Entered::Waits(id) => wait(&places, &units, id),
            Entered::Refused(wait) => panic!("it has time: {wait:?}"),
        }
        gives.join().unwrap();
        assert_eq!(units.0.load(Relaxed), 0);
        assert!(places.are_quiet() && places.waiting() == 0);
    });
}

#[test]
fn loom_one_who_leaves_takes_no_unit_along_that_another_waits_for() {
    model(|| {
        let (places, units) = nobody(0);
        let enter = || match places.enter(&*units, None, 1, 1, LATER) {
            Entered::Waits(id) => id,
            other => panic!("there is nothing: {other:?}"),
        };
        let (first, second) = (enter(), enter());
        let (others, theirs) = (places.clone(), units.clone());
        let gives = thread::spawn(move || others.give_back(&*theirs, None, 1, 1, 1));
        let (others, theirs) = (places.clone(), units.clone());
        let leaves = thread::spawn(move || {
            if let Some(taken) = others.leave(&*theirs, None, first, 1) {
                others.give_back(&*theirs, None, 1, taken, 1);
            }
        });
        wait(&places, &units, second);
        gives.join().unwrap();
        leaves.join().unwrap();
        assert_eq!(units.0.load(Relaxed), 0);
        assert!(places.are_quiet() && places.waiting() == 0);
    });
}

#[test]
fn loom_a_restriction_that_is_over_is_forgotten_whenever_it_came() {
    model(|| {
        let (places, units) = nobody(9);
        let whose = Print::new(7);
        let others = places.clone();
        let restricts = thread::spawn(move || others.restrict(whose, 1, 5, 10));
        places.enter(&*units, None, 1, 10, 10);
        restricts.join().unwrap();
        places.enter(&*units, None, 1, 11, 11);
        assert!(places.are_quiet());
    });
}
