//! Every interleaving of a few threads, by loom.

use loom::{
    sync::{Arc, atomic::Ordering},
    thread,
};

use super::*;

/// Few enough switches to end in seconds, and enough for each of these protocols to break where a step is left out.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

#[test]
fn loom_calls_are_neither_lost_nor_counted_twice() {
    model(|| {
        let ledger = Arc::new(Ledger::new(1));
        let other = {
            let ledger = Arc::clone(&ledger);
            thread::spawn(move || {
                ledger.deposit(0, || 1);
                ledger.deposit(0, || 1);
            })
        };
        ledger.deposit(0, || 1);
        assert!(ledger.calls(1) <= 3, "counted twice");
        other.join().unwrap();
        assert_eq!((ledger.calls(1), ledger.made()), (3, 3));
    });
}

/// A reading of a clock that all threads agree on: whoever reads the later time sees what was done before it.
fn read(clock: &AtomicU64) -> u64 {
    fence(SeqCst);
    let slot = clock.load(Ordering::SeqCst);
    fence(SeqCst);
    slot
}

#[test]
fn loom_a_call_is_never_taken_for_newer_than_it_is() {
    model(|| {
        let ledger = Arc::new(Ledger::new(1));
        let clock = Arc::new(AtomicU64::new(1));
        let callers = [(), ()].map(|()| {
            let (ledger, clock) = (Arc::clone(&ledger), Arc::clone(&clock));
            thread::spawn(move || {
                ledger.deposit(0, || read(&clock));
                read(&clock) == 1
            })
        });
        let _folds = ledger.calls(1);
        clock.store(2, Ordering::SeqCst);
        let old: u64 = callers.map(|caller| u64::from(caller.join().unwrap())).iter().sum();
        let (with_slot_1, without) = (ledger.calls(SLOTS), ledger.calls(SLOTS + 1));
        assert!(without <= 2 - old, "{without} counted when {old} of 2 have left the window");
        assert!(with_slot_1 <= 2);
    });
}

#[test]
fn loom_extra_calls_are_never_too_many() {
    for slots in [[5, 5], [5, 6]] {
        model(move || {
            let ledger = Arc::new(Ledger::new(1));
            let other = {
                let ledger = Arc::clone(&ledger);
                thread::spawn(move || ledger.withdraw(slots[0], |_| 1))
            };
            let mine = ledger.withdraw(slots[1], |_| 1);
            let granted = u64::from(mine) + u64::from(other.join().unwrap());
            assert!(granted <= 1);
            // Whoever was refused has left nothing behind.
            assert_eq!(ledger.extra(slots[1]), granted);
            assert_eq!(ledger.withdraw(slots[1], |_| 1), granted == 0);
        });
    }
}

#[test]
fn loom_a_place_that_changes_hands_keeps_the_count() {
    model(|| {
        let ring = Arc::new(Ring::new());
        let newer = PLACES as u64;
        ring.add(0, 1).unwrap();
        let other = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                ring.add(newer, 1).unwrap();
                ring.take_back(0);
            })
        };
        ring.add(newer, 2).unwrap();
        let _too_late = ring.add(0, 4);
        other.join().unwrap();
        assert_eq!(ring.sum(0, u64::MAX), 3);
    });
}
