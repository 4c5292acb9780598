//! The protocol between leaders and followers, in all orders of two threads.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use loom::{future::block_on, thread};

use super::*;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn flights() -> Arc<Flights<u8, u8>> {
    Arc::new(Flights::with_shards(1))
}

/// What a call for the key comes to that brings `value` if it has to lead.
async fn call(flights: &Arc<Flights<u8, u8>>, value: u8) -> u8 {
    let leader = match flights.join(&1) {
        Joined::Lead(leader) => leader,
        Joined::Follow(follower) => match follower.await {
            Landed::With(value) => return value,
            Landed::Lead(leader) => leader,
        },
    };
    leader.land(value);
    value
}

#[test]
fn loom_a_follower_gets_the_value_or_leads() {
    model(|| {
        let flights = flights();
        let other = flights.clone();
        let first = thread::spawn(move || block_on(call(&other, 7)));
        let mine = block_on(call(&flights, 8));
        let theirs = first.join().unwrap();
        assert!(mine == 8 || mine == 7 && theirs == 7);
        assert!(flights.is_empty());
    });
}

#[test]
fn loom_a_leader_that_is_dropped_hands_over_and_nobody_hangs() {
    model(|| {
        let flights = flights();
        let Joined::Lead(leader) = flights.join(&1) else { panic!("nobody leads") };
        let drops = thread::spawn(move || drop(leader));
        assert_eq!(block_on(call(&flights, 8)), 8);
        drops.join().unwrap();
        assert!(flights.is_empty());
    });
}

/// The first in line leaves at the moment at which it becomes his turn.
#[test]
fn loom_a_turn_is_passed_on_by_a_follower_that_leaves() {
    model(|| {
        let flights = flights();
        let Joined::Lead(leader) = flights.join(&1) else { panic!("nobody leads") };
        let Joined::Follow(first) = flights.join(&1) else { panic!("somebody leads") };
        let Joined::Follow(second) = flights.join(&1) else { panic!("somebody leads") };
        let drops = thread::spawn(move || drop(leader));
        let leaves = thread::spawn(move || {
            let mut first = pin!(first);
            let _turn: Poll<_> = first.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        });
        assert!(matches!(block_on(second), Landed::Lead(_)));
        drops.join().unwrap();
        leaves.join().unwrap();
        assert!(flights.is_empty());
    });
}

/// What an invalidation finds under way is not kept: it is detached before it lands, or was kept before and is removed.
#[test]
fn loom_nothing_is_kept_after_an_invalidation() {
    model(|| {
        let flights = flights();
        let memory = Arc::new(Mutex::new(None));
        let Joined::Lead(leader) = flights.join(&1) else { panic!("nobody leads") };
        let (shared, kept) = (flights.clone(), memory.clone());
        let lands = thread::spawn(move || {
            leader.land_with(7, || *lock(&kept) = Some(7));
            drop(shared);
        });
        flights.detach(&1);
        *lock(&memory) = None;
        lands.join().unwrap();
        assert_eq!(*lock(&memory), None);
    });
}
