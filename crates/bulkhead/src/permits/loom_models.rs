//! Every interleaving of a few threads (loom), on the protocol as it ships. `cargo xtask ci loom` runs them.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use super::*;
use crate::sync::set_thread_number;

/// Every interleaving with at most two preemptions of a running thread: the bound at which most of what goes wrong does
/// (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007), and seconds instead of hours. `LOOM_MAX_PREEMPTIONS`
/// asks for another.
fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(f);
}

fn permits(limit: usize, stripes: usize) -> Arc<Permits> {
    Arc::new(Permits::new(Plan {
        limit,
        reserve: 0,
        reserved_from: Criticality::CriticalPlus,
        capacity: 8,
        stripes,
    }))
}

fn enter(permits: &Permits, may_wait: bool) -> Entry {
    if permits.take() {
        Entry::Permit(Source::General)
    } else {
        permits.enter(|| Criticality::Critical, may_wait)
    }
}

/// A thread with that stripe. The model's own thread has the first.
fn spawn(number: usize, f: impl FnOnce() + 'static) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        set_thread_number(number);
        f();
    })
}

/// Counts who is inside, and the most there ever were.
#[derive(Default)]
struct Inside {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Inside {
    fn hold(&self, permits: &Permits, source: Source) {
        self.most.fetch_max(self.now.fetch_add(1, SeqCst) + 1, SeqCst);
        self.now.fetch_sub(1, SeqCst);
        permits.give_back(source);
    }
}

#[test]
fn loom_never_more_than_the_limit_however_they_steal() {
    for (limit, stripes) in [(1, 2), (2, 2), (2 * FEW, 2)] {
        model(move || {
            let permits = permits(limit, stripes);
            // One stripe has all: everybody else steals.
            let kept: Vec<_> = (1..limit.min(3)).map(|_| enter(&permits, false)).collect();
            let inside = Arc::new(Inside::default());
            inside.now.store(kept.len(), SeqCst);
            let others = [0, 1].map(|number| {
                let (permits, inside) = (Arc::clone(&permits), Arc::clone(&inside));
                spawn(number, move || {
                    if let Entry::Permit(source) = enter(&permits, false) {
                        inside.hold(&permits, source);
                    }
                })
            });
            others.into_iter().for_each(|other| other.join().unwrap());
            assert!(inside.most.load(SeqCst) <= limit);
            for entry in kept {
                let Entry::Permit(source) = entry else { unreachable!("nobody else was there") };
                permits.give_back(source);
            }
            assert!(permits.are_home());
        });
    }
}

#[test]
fn loom_a_permit_that_comes_back_finds_the_one_who_waits() {
    for stripes in [1, 2] {
        model(move || {
            let permits = permits(1, stripes);
            assert!(matches!(enter(&permits, false), Entry::Permit(_)));
            let giver = {
                let permits = Arc::clone(&permits);
                spawn(1, move || permits.give_back(Source::General))
            };
            match enter(&permits, true) {
                Entry::Permit(_) => giver.join().unwrap(),
                Entry::Wait(key) => {
                    giver.join().unwrap();
                    let standing = permits.look(key, Waker::noop());
                    assert_eq!(standing, Standing::Granted(Source::General), "forgotten");
                }
                Entry::Full => unreachable!("there is a queue"),
            }
        });
    }
}

/// A thief has permits on the way while somebody begins to wait.
#[test]
fn loom_permits_on_the_way_find_the_one_who_waits() {
    model(|| {
        let permits = permits(2 * FEW, 2);
        // What lies in the own stripe, so that a batch is left in the other.
        for _ in 0..FEW {
            assert!(permits.take());
        }
        let thief = {
            let permits = Arc::clone(&permits);
            spawn(0, move || assert!(matches!(enter(&permits, true), Entry::Permit(_))))
        };
        let mine: Vec<_> = (0..FEW - 1).map(|_| enter(&permits, true)).collect();
        thief.join().unwrap();
        for entry in mine {
            match entry {
                Entry::Permit(_) => {}
                Entry::Wait(key) => {
                    let standing = permits.look(key, Waker::noop());
                    assert_eq!(standing, Standing::Granted(Source::General), "there are enough for all");
                }
                Entry::Full => unreachable!("there is a queue"),
            }
        }
        assert_eq!(permits.in_flight(), 2 * FEW);
    });
}

#[test]
fn loom_nobody_overtakes_the_one_who_waits() {
    for (stripes, may_wait) in [(1, false), (1, true), (2, false), (2, true)] {
        model(move || {
            let permits = permits(1, stripes);
            assert!(matches!(enter(&permits, false), Entry::Permit(_)));
            let Entry::Wait(key) = enter(&permits, true) else { unreachable!("it is full") };
            let giver = {
                let permits = Arc::clone(&permits);
                spawn(0, move || permits.give_back(Source::General))
            };
            assert!(!matches!(enter(&permits, may_wait), Entry::Permit(_)));
            giver.join().unwrap();
            assert_eq!(permits.look(key, Waker::noop()), Standing::Granted(Source::General));
        });
    }
}

#[test]
fn loom_a_waiter_that_leaves_hands_its_permit_on() {
    model(|| {
        let permits = permits(1, 1);
        assert!(matches!(enter(&permits, false), Entry::Permit(_)));
        let Entry::Wait(first) = enter(&permits, true) else { unreachable!("it is full") };
        let Entry::Wait(second) = enter(&permits, true) else { unreachable!("it is full") };
        let giver = {
            let permits = Arc::clone(&permits);
            spawn(1, move || permits.give_back(Source::General))
        };
        if let Standing::Granted(source) = permits.leave(first) {
            permits.give_back(source);
        }
        giver.join().unwrap();
        assert_eq!(permits.look(second, Waker::noop()), Standing::Granted(Source::General));
        permits.give_back(Source::General);
        assert!(permits.are_home());
    });
}

#[test]
fn loom_a_lower_limit_is_reached_by_permits_that_come_back() {
    for stripes in [1, 2] {
        model(move || {
            let permits = permits(2, stripes);
            let held = [enter(&permits, false), enter(&permits, false)];
            assert!(!held.contains(&Entry::Full));
            let givers = [0, 1].map(|number| {
                let permits = Arc::clone(&permits);
                spawn(number, move || permits.give_back(Source::General))
            });
            permits.set_limit(1);
            givers.into_iter().for_each(|giver| giver.join().unwrap());
            assert!(permits.are_home());
            assert!(matches!(enter(&permits, false), Entry::Permit(_)));
            assert_eq!(enter(&permits, false), Entry::Full);
        });
    }
}

#[test]
fn loom_a_permit_that_is_owed_is_given_to_nobody() {
    for stripes in [1, 2] {
        model(move || {
            let permits = permits(2, stripes);
            let held = [enter(&permits, false), enter(&permits, false)];
            assert!(!held.contains(&Entry::Full));
            permits.set_limit(1);
            let giver = {
                let permits = Arc::clone(&permits);
                spawn(1, move || permits.give_back(Source::General))
            };
            let Entry::Wait(key) = enter(&permits, true) else { unreachable!("one is held, and is all") };
            giver.join().unwrap();
            assert_eq!(permits.look(key, Waker::noop()), Standing::Waiting);
            assert_eq!(permits.count().in_flight, 1);
        });
    }
}

#[test]
fn loom_a_higher_limit_lets_in_who_waits() {
    model(|| {
        let permits = permits(1, 2);
        assert!(matches!(enter(&permits, false), Entry::Permit(_)));
        let raiser = {
            let permits = Arc::clone(&permits);
            spawn(1, move || {
                permits.set_limit(2);
                permits.attend();
            })
        };
        let entry = enter(&permits, true);
        raiser.join().unwrap();
        match entry {
            Entry::Permit(_) => {}
            Entry::Wait(key) => {
                assert_eq!(permits.look(key, Waker::noop()), Standing::Granted(Source::General));
            }
            Entry::Full => unreachable!("there is a queue"),
        }
        assert_eq!(permits.count().in_flight, 2);
    });
}
