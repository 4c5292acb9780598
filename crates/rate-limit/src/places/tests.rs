use std::{task::Waker, time::Duration};

use buttress_core::Origin;

use super::*;
use crate::{Limit, Rate, clock::START, inner::Inner};

const SECOND: u64 = 1_000_000_000;

fn keyed() -> Inner {
    let limit = Limit::gcra(Rate::per_second(1), 1).unwrap();
    Inner::new(Origin::new("rate-limit", "places"), &[], &[limit], 100)
}

fn queue(inner: &Inner, whose: Whose) -> usize {
    inner.places.shard(whose).get(&whose).map_or(0, |place| place.queue.len())
}

#[test]
fn a_key_that_never_comes_again_keeps_nobody_on_the_slow_way() {
    let inner = keyed();
    let keys: Vec<Whose> = (0..100).map(|key| inner.print(&key)).collect();
    for (seconds, key) in (1..).zip(&keys) {
        inner.places.restrict(*key, 0, START, START + seconds * SECOND);
    }
    let other = inner.print(&"other");
    inner.enter(other, 1, START + 99 * SECOND, START);
    assert!(!inner.places.are_quiet());
    inner.enter(other, 1, START + 100 * SECOND, START);
    assert!(inner.places.are_quiet());
    // The next time is no worse.
    inner.places.restrict(keys[0], 0, START + 200 * SECOND, START + 201 * SECOND);
    inner.enter(other, 1, START + 202 * SECOND, START);
    assert!(inner.places.are_quiet());
}

#[test]
fn those_who_have_gone_take_no_memory() {
    let inner = keyed();
    let key = inner.print(&1);
    inner.take_all(key, 1, START).unwrap();
    let enter = || match inner.places.enter(&inner, key, 1, START, u64::MAX) {
        Entered::Waits(id) => id,
        other => panic!("{other:?}"),
    };
    let first = enter();
    let between: Vec<u64> = (0..17).map(|_| enter()).collect();
    let second = enter();
    for id in between {
        inner.places.leave(&inner, key, id, START);
    }
    let look = |id, now| inner.places.look(&inner, key, id, Waker::noop(), now, u64::MAX);
    assert_eq!(look(second, START), Standing::Waits(2 * SECOND));
    inner.places.leave(&inner, key, second, START);
    for _ in 0..10_000 {
        inner.places.leave(&inner, key, enter(), START);
        assert!(queue(&inner, key) <= 40, "{}", queue(&inner, key));
    }
    let last = enter();
    assert_eq!(inner.places.wait(&inner, key, 1, START), 3 * SECOND, "two wait");
    assert_eq!(inner.places.leave(&inner, key, first, START), None);
    assert_eq!(look(last, START), Standing::Waits(SECOND));
    assert_eq!(look(last, START + SECOND), Standing::Granted(START + SECOND));
    assert!(inner.places.are_quiet());
    assert_eq!(inner.places.waiting(), 0);
}

#[test]
fn where_restrictions_are_too_many_those_who_wait_and_all_keep_theirs() {
    let inner = keyed();
    let until = START + SECOND;
    inner.places.restrict(None, 0, START, until);
    let waits = inner.print(&"waits");
    inner.places.restrict(waits, 0, START, until);
    assert!(matches!(inner.places.enter(&inner, waits, 1, START, u64::MAX), Entered::Waits(_)));
    for key in 0..MOST_PLACES {
        inner.places.restrict(inner.print(&key), 0, START, until);
    }
    assert!(inner.places.count.load(Relaxed) <= MOST_PLACES);
    for whose in [None, waits] {
        assert!(inner.places.wait(&inner, whose, 1, START) >= SECOND, "{whose:?}");
    }
}

#[test]
fn a_restriction_for_ever_overflows_nothing() {
    let limits = |rate: Rate| [Limit::from(rate), Limit::fixed_window(rate), Limit::gcra(rate, 1).unwrap()];
    for period in [Duration::from_nanos(1), Duration::from_secs(1), Rate::MAX_PERIOD] {
        for limit in limits(Rate::try_new(1, period).unwrap()) {
            let inner = Inner::new(Origin::new("rate-limit", "places"), &[limit], &[], 0);
            inner.places.restrict(None, 0, START, u64::MAX);
            assert!(inner.places.wait(&inner, None, u32::MAX, START) >= LONGEST);
            assert!(matches!(inner.places.enter(&inner, None, 1, START, u64::MAX), Entered::Waits(_)));
        }
    }
}
