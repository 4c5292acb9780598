use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::task::unconstrained;

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// He had been told, but had not taken it when there became fewer; then he goes.
#[tokio::test]
async fn a_place_that_nobody_came_for_is_not_there_twice() {
    let gate = Gate::new(2);
    let (one, other) = (gate.take_now().unwrap(), gate.take_now().unwrap());
    {
        let mut waits = pin!(gate.take(LONG));
        assert!(waits.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(one);
        gate.set(1);
    }
    assert!(gate.take_now().is_none(), "one is taken of one");
    drop(other);
    let whole = gate.take_now();
    assert!(whole.is_some() && gate.take_now().is_none());
}

/// Whatever happens between, as many can be taken in the end as were set last.
#[tokio::test]
async fn places_are_neither_lost_nor_made() {
    unconstrained(come_and_go()).await;
}

async fn come_and_go() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let gate = Gate::new(3);
        let (mut taken, mut most) = (Vec::new(), 3);
        let mut waiting = Vec::new();
        for _ in 0..60 {
            match random.u8(0..6) {
                0 => taken.extend(gate.take_now()),
                1 => waiting.push(Box::pin(gate.take(LONG))),
                2 if !taken.is_empty() => drop(taken.swap_remove(random.usize(..taken.len()))),
                3 if !waiting.is_empty() => drop(waiting.swap_remove(random.usize(..waiting.len()))),
                4 => {
                    most = random.usize(1..6);
                    gate.set(most);
                }
                _ => waiting.retain_mut(|waits| {
                    let Poll::Ready(place) = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()))
                    else {
                        return true;
                    };
                    taken.push(place.unwrap_or_else(|_| unreachable!("it is not closed")));
                    false
                }),
            }
        }
        waiting.clear();
        taken.clear();
        let all: Vec<_> = std::iter::from_fn(|| gate.take_now()).collect();
        assert_eq!((all.len(), gate.waiting()), (most, 0), "seed {seed}");
    }
}
