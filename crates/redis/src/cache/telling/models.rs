use std::sync::Arc;

use buttress_testkit::models::model;
use loom::{future::block_on, thread};

use super::*;

/// What was written while Redis did not tell is in memory until all is forgotten.
const OLD: u64 = 7;

#[test]
fn loom_who_is_told_finds_nothing_of_before() {
    model(3, || {
        let (telling, memory) = (Arc::new(Telling::default()), Arc::new(AtomicU64::new(OLD)));
        telling.begins(1, || true, || unreachable!("it is the first"));
        let keeper = {
            let (telling, memory) = (Arc::clone(&telling), Arc::clone(&memory));
            thread::spawn(move || {
                telling.ends(1);
                telling.begins(2, || true, || memory.store(0, Relaxed));
            })
        };
        if telling.is(2) {
            assert_eq!(memory.load(Relaxed), 0, "what was missed is still there");
        }
        block_on(telling.wait(|| 2));
        assert_eq!(memory.load(Relaxed), 0);
        assert!(telling.is_lost(1) && !telling.is_lost(2) && !telling.is(1));
        keeper.join().unwrap();
    });
}

#[test]
fn loom_all_who_wait_for_a_connection_are_woken() {
    model(2, || {
        let telling = Arc::new(Telling::default());
        let other = {
            let telling = Arc::clone(&telling);
            thread::spawn(move || block_on(telling.wait(|| 2)))
        };
        let keeper = {
            let telling = Arc::clone(&telling);
            thread::spawn(move || {
                telling.begins(1, || true, || {});
                telling.ends(1);
                telling.begins(2, || true, || {});
            })
        };
        block_on(telling.wait(|| 2));
        other.join().unwrap();
        keeper.join().unwrap();
    });
}
