use std::{
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::Wake,
    thread,
};

use proptest::prelude::*;

use super::*;

const CRITICAL: Criticality = Criticality::Critical;

fn plan(limit: usize, stripes: usize) -> Plan {
    Plan { limit, reserve: 0, reserved_from: Criticality::CriticalPlus, capacity: 4, stripes }
}

fn enter(permits: &Permits, level: Criticality, may_wait: bool) -> Entry {
    if permits.take() { Entry::Permit(Source::General) } else { permits.enter(|| level, may_wait) }
}

#[derive(Debug, Clone)]
enum Step {
    Enter { level: usize, may_wait: bool },
    GiveBack(prop::sample::Index),
    Leave(prop::sample::Index),
    Limit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_usize, any::<bool>()).prop_map(|(level, may_wait)| Step::Enter { level, may_wait }),
        3 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
        1 => any::<prop::sample::Index>().prop_map(Step::Leave),
        1 => (3..20_usize).prop_map(Step::Limit),
    ];
    prop::collection::vec(step, 0..150)
}

/// The bulkhead told with plain lists: who holds, who waits in which order, and nothing else.
#[derive(Debug, Default)]
struct Naive {
    limit: usize,
    general: usize,
    reserve: usize,
    waiting: Vec<(Key, Criticality)>,
    granted: Vec<(Key, Source)>,
    shed: Vec<Key>,
}

const RESERVE: usize = 2;
const RESERVED_FROM: Criticality = Criticality::CriticalPlus;
const CAPACITY: usize = 4;

impl Naive {
    fn free(&self, level: Criticality) -> Option<Source> {
        if self.general < self.limit - RESERVE {
            Some(Source::General)
        } else if level >= RESERVED_FROM && self.reserve < RESERVE {
            Some(Source::Reserve)
        } else {
            None
        }
    }

    fn count(&mut self, source: Source) -> &mut usize {
        match source {
            Source::General => &mut self.general,
            Source::Reserve => &mut self.reserve,
        }
    }

    fn grant(&mut self) {
        while let Some(at) = (0..self.waiting.len()).rev().max_by_key(|at| self.waiting[*at].1)
            && let Some(source) = self.free(self.waiting[at].1)
        {
            let (key, _) = self.waiting.remove(at);
            *self.count(source) += 1;
            self.granted.push((key, source));
        }
    }

    /// Nothing where it is refused, else how it got in.
    fn enter(&mut self, level: Criticality, may_wait: bool) -> Option<Result<Source, ()>> {
        let queue_jumps = self.waiting.is_empty() || self.free(level) == Some(Source::Reserve);
        if queue_jumps && let Some(source) = self.free(level) {
            *self.count(source) += 1;
            return Some(Ok(source));
        }
        if !may_wait {
            return None;
        }
        if self.waiting.len() == CAPACITY {
            let lowest = (0..CAPACITY).rev().min_by_key(|at| self.waiting[*at].1)?;
            if self.waiting[lowest].1 >= level {
                return None;
            }
            self.shed.push(self.waiting.remove(lowest).0);
        }
        Some(Err(()))
    }
}

proptest! {
    #[test]
    fn one_thread_sees_what_plain_lists_say(limit in 3..20_usize, stripes in 0..4_u32, steps in steps()) {
        let permits = Permits::new(Plan {
            limit, reserve: RESERVE, reserved_from: RESERVED_FROM, capacity: CAPACITY, stripes: 1 << stripes,
        });
        let mut naive = Naive { limit, ..Naive::default() };
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Enter { level, may_wait } => {
                    let level = Criticality::ALL[level];
                    let expected = naive.enter(level, may_wait);
                    match enter(&permits, level, may_wait) {
                        Entry::Permit(source) => {
                            prop_assert_eq!(expected, Some(Ok(source)));
                            held.push(source);
                        }
                        Entry::Wait(key) => {
                            prop_assert_eq!(expected, Some(Err(())));
                            naive.waiting.push((key, level));
                        }
                        Entry::Full => prop_assert_eq!(expected, None),
                    }
                }
                Step::GiveBack(index) => {
                    if !held.is_empty() {
                        let source = held.swap_remove(index.index(held.len()));
                        *naive.count(source) -= 1;
                        permits.give_back(source);
                    }
                }
                Step::Leave(index) => {
                    if !naive.waiting.is_empty() {
                        let (key, _) = naive.waiting.remove(index.index(naive.waiting.len()));
                        prop_assert_eq!(permits.leave(key), Standing::Waiting);
                    }
                }
                Step::Limit(limit) => {
                    naive.limit = limit;
                    permits.set_limit(limit);
                    permits.attend();
                }
            }
            naive.grant();
            for (key, source) in naive.granted.drain(..) {
                prop_assert_eq!(permits.look(key, Waker::noop()), Standing::Granted(source));
                held.push(source);
            }
            for key in naive.shed.drain(..) {
                prop_assert_eq!(permits.look(key, Waker::noop()), Standing::Shed);
            }
            for (key, _) in &naive.waiting {
                prop_assert_eq!(permits.look(*key, Waker::noop()), Standing::Waiting);
            }
            let count = permits.count();
            prop_assert_eq!((count.limit, count.in_flight), (naive.limit, held.len()));
            prop_assert_eq!(permits.in_flight(), held.len());
            prop_assert_eq!(count.waiting, naive.waiting.len());
        }
        held.into_iter().for_each(|source| permits.give_back(source));
        let waiting = std::mem::take(&mut naive.waiting);
        for (key, _) in waiting {
            if let Standing::Granted(source) = permits.leave(key) {
                permits.give_back(source);
            }
        }
        prop_assert!(permits.are_home());
    }
}

#[test]
fn a_call_that_is_admitted_is_not_asked_what_it_matters() {
    let permits = Permits::new(plan(1, 8));
    let unasked = || unreachable!("there is a permit");
    assert_eq!(permits.enter(unasked, true), Entry::Permit(Source::General));
}

/// What was owed when it came is paid, and more, by the time it would be refused.
#[test]
fn a_refusal_has_looked_everywhere() {
    let permits = Permits::new(plan(2, 8));
    let mut held: Vec<_> = (0..2).map(|_| enter(&permits, CRITICAL, false)).collect();
    permits.set_limit(1);
    let meanwhile = || {
        for entry in held.drain(..) {
            let Entry::Permit(source) = entry else { unreachable!("there were two") };
            permits.give_back(source);
        }
        CRITICAL
    };
    assert_eq!(permits.enter(meanwhile, false), Entry::Permit(Source::General));
}

/// Somebody begins to wait for what the newcomer need not wait for.
#[test]
fn a_refusal_has_looked_at_the_reserve() {
    let permits = Permits::new(Plan { reserve: 1, ..plan(2, 1) });
    assert!(permits.take());
    let meanwhile = || {
        assert!(matches!(permits.enter(|| CRITICAL, true), Entry::Wait(_)));
        Criticality::CriticalPlus
    };
    assert_eq!(permits.enter(meanwhile, false), Entry::Permit(Source::Reserve));
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker");
    }
}

/// Waits, with a waker that panics.
fn wait(permits: &Permits, level: Criticality) -> Key {
    let Entry::Wait(key) = enter(permits, level, true) else { unreachable!("it is full") };
    assert_eq!(permits.look(key, &Waker::from(Arc::new(Panics))), Standing::Waiting);
    key
}

fn panics(f: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(f)).is_err()
}

#[test]
fn a_waker_that_panics_keeps_nobody_else_waiting() {
    let permits = Permits::new(plan(1, 1));
    assert!(permits.take());
    let waiting = [(); 3].map(|()| wait(&permits, CRITICAL));
    permits.set_limit(4);
    assert!(panics(|| permits.attend()));
    for key in waiting {
        assert_eq!(permits.look(key, Waker::noop()), Standing::Granted(Source::General));
    }
    (0..4).for_each(|_| permits.give_back(Source::General));
    assert!(permits.are_home());

    // Also where it is a newcomer that wakes them.
    let all: Vec<_> = (0..4).map(|_| enter(&permits, CRITICAL, false)).collect();
    assert!(!all.contains(&Entry::Full));
    let waiting = [(); 3].map(|()| wait(&permits, CRITICAL));
    permits.set_limit(7);
    assert!(panics(|| _ = enter(&permits, CRITICAL, true)));
    for key in waiting {
        assert_eq!(permits.look(key, Waker::noop()), Standing::Granted(Source::General));
    }
    assert_eq!(permits.count().waiting, 0, "the newcomer has not come in");
}

/// Whoever sheds one whose waker panics never learns of its own place.
#[test]
fn a_waker_of_one_who_is_shed_that_panics_takes_no_permit_along() {
    let permits = Permits::new(plan(1, 1));
    assert!(permits.take());
    let shed = [(); 4].map(|()| wait(&permits, Criticality::Sheddable));
    assert!(panics(|| _ = enter(&permits, CRITICAL, true)));
    assert_eq!((permits.count().waiting, permits.count().shed), (3, 1));
    assert_eq!(permits.look(shed[3], Waker::noop()), Standing::Shed);
    shed[..3].iter().for_each(|key| _ = permits.leave(*key));
    permits.give_back(Source::General);
    assert!(permits.are_home());
}

/// More threads than stripes, with steals, waits, leaving, and a limit that moves.
#[test]
fn no_interleaving_of_threads_lets_one_too_many_in() {
    const HIGHEST: usize = 24;
    for stripes in [1, 4] {
        let permits = Arc::new(Permits::new(plan(HIGHEST, stripes)));
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let start = Barrier::new(5);
        let hold = |source| {
            most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
            thread::yield_now();
            inside.fetch_sub(1, SeqCst);
            permits.give_back(source);
        };
        thread::scope(|scope| {
            for seed in 0..4_usize {
                let (permits, hold, start) = (&permits, &hold, &start);
                scope.spawn(move || {
                    start.wait();
                    for round in 0..20_000_usize {
                        // Several at once, so that the limit is reached.
                        let taken: Vec<_> =
                            (0..8).map(|_| enter(permits, CRITICAL, round % 4 == seed)).collect();
                        for entry in taken {
                            match entry {
                                Entry::Permit(source) => hold(source),
                                Entry::Wait(key) => {
                                    if let Standing::Granted(source) = permits.leave(key) {
                                        hold(source);
                                    }
                                }
                                Entry::Full => {}
                            }
                        }
                    }
                });
            }
            start.wait();
            for round in 0..2_000 {
                permits.set_limit(if round % 2 == 0 { 3 } else { HIGHEST });
                permits.attend();
                thread::yield_now();
            }
        });
        permits.set_limit(HIGHEST);
        assert!(permits.are_home(), "{permits:?}");
        assert!((1..=HIGHEST).contains(&most.into_inner()));
        let all = (0..2 * HIGHEST).filter(|_| enter(&permits, CRITICAL, false) != Entry::Full).count();
        assert_eq!(all, HIGHEST, "whichever stripes they lie in, one thread gets all");
    }
}

#[test]
fn every_waiter_is_served_whoever_gives_back() {
    let permits = Permits::new(Plan { capacity: 1_000, ..plan(2, 8) });
    let served = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    let source = match enter(&permits, CRITICAL, true) {
                        Entry::Permit(source) => source,
                        Entry::Wait(key) => loop {
                            match permits.look(key, Waker::noop()) {
                                Standing::Granted(source) => break source,
                                Standing::Waiting => thread::yield_now(),
                                Standing::Shed => unreachable!("there is room"),
                            }
                        },
                        Entry::Full => unreachable!("there is room"),
                    };
                    served.fetch_add(1, SeqCst);
                    permits.give_back(source);
                }
            });
        }
    });
    assert_eq!(served.into_inner(), 20_000);
    assert!(permits.are_home());
}
