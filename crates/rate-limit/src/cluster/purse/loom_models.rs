//! Every interleaving of a few threads (loom), on the protocol as it ships. `cargo xtask ci loom` runs them.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use super::*;
use crate::clock::START;

const LATER: u64 = START + (1 << 30);

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(f);
}

/// Takes one unit so often, and counts what it got.
fn taker(purse: &Arc<Purse>, got: &Arc<AtomicU32>, times: u32) -> thread::JoinHandle<()> {
    let (purse, got) = (Arc::clone(purse), Arc::clone(got));
    thread::spawn(move || {
        for _ in 0..times {
            if matches!(purse.decide(1, START), Local::Admitted | Local::AdmittedAndLow) {
                got.fetch_add(1, SeqCst);
            }
        }
    })
}

#[test]
fn loom_a_lease_handed_over_loses_and_makes_no_unit() {
    model(|| {
        let (purse, got) = (Arc::new(Purse::new()), Arc::new(AtomicU32::new(0)));
        purse.put(1, LATER);
        let takers = [taker(&purse, &got, 2), taker(&purse, &got, 1)];
        purse.put(2, LATER + (1 << 20));
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(got.load(SeqCst) + purse.left(START), 3);
    });
}

#[test]
fn loom_what_is_given_back_was_not_admitted() {
    model(|| {
        let (purse, got) = (Arc::new(Purse::new()), Arc::new(AtomicU32::new(0)));
        purse.put(2, LATER);
        let takers = [taker(&purse, &got, 1), taker(&purse, &got, 1)];
        let back = purse.empty();
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(got.load(SeqCst) + back, 2);
        assert_eq!(purse.lying(), 0);
    });
}

/// A waiter is served out of the purse, and the rest goes back, while others take.
#[test]
fn loom_taking_all_out_and_putting_the_rest_back_keeps_the_sum() {
    model(|| {
        let (purse, got) = (Arc::new(Purse::new()), Arc::new(AtomicU32::new(0)));
        purse.put(3, LATER);
        let other = taker(&purse, &got, 2);
        let all = purse.empty();
        let served = all.min(1);
        purse.put(all - served, LATER);
        other.join().unwrap();
        assert_eq!(got.load(SeqCst) + served + purse.left(START), 3);
    });
}

/// Exactly one of those who take says that little is left; who adds sees for himself what lies there afterwards.
#[test]
fn loom_the_mark_is_passed_once() {
    model(|| {
        let (purse, said) = (Arc::new(Purse::new()), Arc::new(AtomicUsize::new(0)));
        purse.set_low(1);
        purse.put(3, LATER);
        let takers = [(); 2].map(|()| {
            let (purse, said) = (Arc::clone(&purse), Arc::clone(&said));
            thread::spawn(move || {
                if purse.decide(1, START) == Local::AdmittedAndLow {
                    said.fetch_add(1, SeqCst);
                }
            })
        });
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!((said.load(SeqCst), purse.left(START)), (1, 1));
    });
}
