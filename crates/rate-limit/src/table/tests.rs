use std::{hash::BuildHasher, time::Duration};

use foldhash::quality::FixedState;
use proptest::prelude::*;

use super::*;
use crate::{Limit, Rate, clock::START};

const PERIOD: u64 = 1_000_000;

fn rate(units: u32) -> Rate {
    Rate::try_new(units, Duration::from_nanos(PERIOD)).unwrap()
}

fn tables(units: u32, keys: usize) -> Vec<(Limit, Keys)> {
    let several = [Limit::gcra(rate(units), units).unwrap(), Limit::from(rate(units))];
    let mut tables: Vec<_> = [
        Limit::gcra(rate(units), units).unwrap(),
        Limit::fixed_window(rate(units)),
        Limit::sliding_window(rate(units)),
        Limit::sliding_log(rate(units)).unwrap(),
    ]
    .into_iter()
    .map(|limit| (limit, Keys::new([Machine::cut(limit, 16)].into(), keys)))
    .collect();
    let machines = several.iter().map(|limit| Machine::cut(*limit, 16)).collect();
    tables.push((several[1], Keys::new(machines, keys)));
    tables
}

fn print(key: u64) -> Print {
    Print::new(FixedState::default().hash_one(key)).unwrap_or(Print::MIN)
}

#[test]
fn a_word_is_two_lines_of_the_cache() {
    assert_eq!(size_of::<Slot<u64>>(), 128);
    assert_eq!(size_of::<Slot<<Several as Rules>::State>>(), 256);
}

proptest! {
    /// However many keys come and however small the table is, no key gets more than its limit: with each key's own machine
    /// beside it that says what it may.
    #[test]
    fn regression_15_no_flood_of_keys_lets_a_key_exceed_its_limit(
        units in 1..6u32,
        steps in prop::collection::vec((0..PERIOD / 20, 0..40u64, 1..3u32), 1..400),
    ) {
        // One set, or two.
        for (limit, keys) in tables(units, 4) {
            let machine = Machine::new(match limit.algorithm() {
                crate::Algorithm::SlidingWindow => Limit::sliding_log(limit.rate()).unwrap(),
                _ => limit,
            });
            let mut alone: Vec<State> = (0..40).map(|_| machine.idle()).collect();
            let mut now = START;
            for (step, key, n) in &steps {
                now += step;
                if keys.take(print(*key), *n, now, now).is_ok() {
                    let state = &mut alone[usize::try_from(*key).unwrap()];
                    prop_assert!(machine.take(state, *n, now).is_ok(), "{:?}", limit);
                }
            }
        }
    }

    /// Where there is room, each key has exactly its own limit.
    #[test]
    fn keys_with_room_do_not_meet(steps in prop::collection::vec((0..PERIOD / 5, 0..6u64, 1..4u32, any::<bool>()), 1..300)) {
        for (limit, keys) in tables(5, 1_000) {
            let machines = [Machine::cut(limit, 16), Machine::new(Limit::gcra(rate(5), 5).unwrap())];
            let several = matches!(&keys, Keys::Several(table) if table.rules.0.len() == 2);
            let machines = &machines[..if several { 2 } else { 1 }];
            let mut alone: Vec<Vec<State>> = (0..6).map(|_| machines.iter().map(Machine::idle).collect()).collect();
            let mut now = START;
            for (step, key, n, back) in &steps {
                now += step;
                let states = &mut alone[usize::try_from(*key).unwrap()];
                let wait = machines.iter().zip(&*states).map(|(machine, state)| machine.wait(state, (*n).into(), now)).max().unwrap();
                let taken = keys.take(print(*key), *n, now, now);
                prop_assert_eq!(taken, if wait == 0 { Ok(()) } else { Err(Some(wait)) }, "{:?}", limit);
                for (machine, state) in machines.iter().zip(states) {
                    if taken.is_ok() {
                        prop_assert!(machine.take(state, *n, now).is_ok());
                        if *back {
                            machine.give_back(state, *n, now, now);
                        }
                    }
                }
                if taken.is_ok() && *back {
                    keys.give_back(print(*key), *n, now, now);
                }
            }
        }
    }
}

#[test]
fn regression_15_a_million_keys_take_the_memory_that_they_were_given() {
    let (_, keys) = tables(1, 10_000).swap_remove(0);
    let mut admitted = 0;
    for key in 0..1_000_000 {
        admitted += u32::from(keys.take(print(key), 1, START, START).is_ok());
    }
    // Those that found a place, and one for the crowd of each set.
    assert_eq!(keys.active(START), 3_637 * PLACES);
    assert!(admitted as usize <= 3_637 * (PLACES + 1), "{admitted}");
    assert_eq!(keys.active(START + PERIOD), 0, "they are gone by themselves");
    assert!(keys.take(print(7), 1, START + PERIOD, START + PERIOD).is_ok());
    assert_eq!(keys.active(START + PERIOD), 1);
}

#[test]
fn as_many_keys_as_there_is_room_for_hardly_meet() {
    let (_, keys) = tables(1, 100_000).swap_remove(0);
    let alone = (0..100_000).filter(|key| keys.take(print(*key), 1, START, START).is_ok()).count();
    assert!(alone > 99_800, "{alone}");
    let crowds = 100_000 - keys.active(START);
    assert!((200..600).contains(&crowds), "{crowds}");
}
