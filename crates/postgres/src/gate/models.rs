//! Places are neither lost nor made, and nobody waits beside a free one: in every order of two or three threads.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
};

use buttress_testkit::models::model;
use loom::{future::block_on, thread};

use super::*;

/// As many can be taken now, and nobody waits.
fn are_home(gate: &Arc<Gate>, most: usize) {
    let all: Vec<_> = std::iter::from_fn(|| gate.take_now()).collect();
    assert_eq!((all.len(), gate.most(), gate.waiting()), (most, most, 0));
    drop(all);
    assert_eq!((gate.places.available_permits(), gate.limit.lock().unwrap().owed), (most, 0));
}

#[test]
fn loom_who_waits_gets_the_place_that_comes_back() {
    model(3, || {
        let gate = Gate::new(1);
        let taken = gate.take_now().unwrap();
        let other = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || drop(block_on(gate.wait()).unwrap()))
        };
        drop(taken);
        drop(block_on(gate.wait()).unwrap());
        other.join().unwrap();
        are_home(&gate, 1);
    });
}

/// One place comes back, one thread waits, and there become fewer.
#[test]
fn loom_a_smaller_gate_has_as_many_places_as_were_set() {
    model(2, || {
        let gate = Gate::new(2);
        let (one, other) = (gate.take_now().unwrap(), gate.take_now().unwrap());
        let waits = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || drop(block_on(gate.wait()).unwrap()))
        };
        let gives = thread::spawn(move || drop(one));
        gate.set(1);
        assert!(gate.take_now().is_none_or(|_| gate.most() == 1));
        drop(other);
        waits.join().unwrap();
        gives.join().unwrap();
        are_home(&gate, 1);
    });
}

#[test]
fn loom_a_larger_gate_lets_in_who_waits() {
    model(3, || {
        let gate = Gate::new(1);
        let taken = gate.take_now().unwrap();
        let sets = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.set(2))
        };
        drop(block_on(gate.wait()).unwrap());
        sets.join().unwrap();
        drop(taken);
        are_home(&gate, 2);
    });
}

/// He had perhaps been given the place when there became fewer, and goes without having taken it.
#[test]
fn loom_who_goes_takes_no_place_along_and_leaves_none_that_is_no_more() {
    model(3, || {
        let gate = Gate::new(2);
        let (one, other) = (gate.take_now().unwrap(), gate.take_now().unwrap());
        let goes = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || {
                let mut waits = pin!(gate.wait());
                let _taken = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            })
        };
        let gives = thread::spawn(move || drop(one));
        gate.set(1);
        goes.join().unwrap();
        gives.join().unwrap();
        assert!(gate.take_now().is_none(), "one is taken of one");
        drop(other);
        are_home(&gate, 1);
    });
}

/// Smaller and larger again, while all are taken, and then while they come back.
#[test]
fn loom_what_is_owed_is_paid_once() {
    for gives_first in [false, true] {
        model(3, move || {
            let gate = Gate::new(2);
            let (one, other) = (gate.take_now().unwrap(), gate.take_now().unwrap());
            let sets = {
                let gate = Arc::clone(&gate);
                thread::spawn(move || gate.set(1))
            };
            let gives = thread::spawn(move || if gives_first { Err(drop(one)) } else { Ok(one) });
            gate.set(2);
            sets.join().unwrap();
            let one = gives.join().unwrap();
            assert_eq!(gate.take_now().is_some(), one.is_err() && gate.most() == 2);
            drop((one, other));
            are_home(&gate, gate.most());
        });
    }
}

#[test]
fn loom_who_waits_at_a_gate_that_is_closed_is_told() {
    model(3, || {
        let gate = Gate::new(1);
        let taken = gate.take_now().unwrap();
        let closes = {
            let gate = Arc::clone(&gate);
            thread::spawn(move || gate.close())
        };
        assert!(block_on(gate.wait()).is_none());
        closes.join().unwrap();
        drop(taken);
        assert!(gate.take_now().is_none());
        assert_eq!(gate.waiting(), 0);
    });
}
