use std::{sync::atomic::AtomicU32, thread};

use proptest::prelude::*;

use super::*;
use crate::clock::START;

const TICK: u64 = 1 << TICK_BITS;

#[test]
fn units_are_taken_once_and_only_in_their_time() {
    let purse = Purse::new();
    assert_eq!(purse.decide(1, START), Local::Unknown);
    purse.put(3, START + 10 * TICK);
    assert_eq!(purse.decide(2, START), Local::Admitted);
    assert_eq!(purse.decide(2, START), Local::Unknown);
    assert_eq!(purse.decide(1, START + 10 * TICK), Local::Unknown);
    assert_eq!((purse.left(START + 10 * TICK), purse.lying()), (0, 1));
    assert_eq!(purse.decide(1, START + 10 * TICK - 1), Local::Admitted);
    assert_eq!(purse.empty(), 0);
}

#[test]
fn what_is_shut_is_refused_by_weight_and_opens_by_itself() {
    let purse = Purse::new();
    purse.put(1, START + TICK);
    purse.shut(3, START + 100 * TICK + 1);
    assert_eq!(purse.decide(2, START), Local::Unknown);
    // Rounded up to a tick: never too early.
    assert_eq!(purse.decide(3, START + 7), Local::Refused(101 * TICK - 7));
    assert_eq!(purse.decide(1, START), Local::Admitted, "what is at hand may be taken");
    assert_eq!(purse.decide(3, START + 101 * TICK), Local::Unknown);
    purse.shut(1, START + TICK);
    purse.open();
    assert_eq!(purse.decide(9, START), Local::Unknown);
}

#[test]
fn the_one_who_passes_the_mark_says_so() {
    let purse = Purse::new();
    purse.put(5, START + TICK);
    purse.set_low(2);
    assert_eq!(purse.decide(2, START), Local::Admitted);
    assert_eq!(purse.decide(2, START), Local::AdmittedAndLow);
    assert_eq!(purse.decide(1, START), Local::Admitted);
    purse.set_low(NEVER);
    purse.put(5, START + TICK);
    assert_eq!(purse.decide(5, START), Local::Admitted);
}

#[test]
fn threads_take_no_more_than_there_is() {
    let (purse, got) = (Purse::new(), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if purse.decide(1, START) == Local::Admitted {
                        got.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        for _ in 0..1_000 {
            purse.put(30, START + TICK);
            thread::yield_now();
        }
    });
    assert_eq!(got.into_inner() + purse.left(START), 30_000);
}

proptest! {
    /// Also around the place where the ticks go round, and with a clock that stands before the first reading.
    #[test]
    fn times_keep_their_order(at in 0..1u64 << 61, distance in TICK..1 << 54) {
        let purse = Purse::new();
        purse.put(1, at + distance);
        prop_assert_eq!(purse.left(at), 1);
        prop_assert_eq!(purse.left(at + distance + TICK), 0);
        purse.shut(1, at + distance);
        let wait = purse.refusal(1, at).unwrap();
        prop_assert!((distance..distance + TICK).contains(&wait), "{wait} of {distance}");
    }
}
