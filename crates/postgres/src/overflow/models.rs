//! The pool beneath is a small one here, with what matters of the real one: who gives a connection back is counted out before it is
//! idle, and a pool that is closed is looked at before it is made larger.

use buttress_testkit::models::model;
use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use super::*;

struct Small {
    users: AtomicUsize,
    /// How many there are, and how many of them are idle.
    slots: Mutex<(usize, usize)>,
    most: AtomicUsize,
    closed: AtomicBool,
}

impl Small {
    fn all_in_use(size: usize) -> Arc<Self> {
        Arc::new(Self {
            users: AtomicUsize::new(size),
            slots: Mutex::new((size, 0)),
            most: AtomicUsize::new(size),
            closed: AtomicBool::new(false),
        })
    }

    fn give_back(&self) {
        self.users.fetch_sub(1, Relaxed);
        self.slots.lock().unwrap().1 += 1;
    }

    fn grow(&self, most: usize) {
        if !self.closed.load(Relaxed) {
            self.most.store(most, Relaxed);
        }
    }

    fn close(&self) {
        self.most.store(0, Relaxed);
        self.closed.store(true, Relaxed);
    }
}

impl Beneath for Small {
    type Closed = ();

    fn count(&self) -> (usize, usize) {
        let (size, _) = *self.slots.lock().unwrap();
        (size, size.saturating_sub(self.users.load(Relaxed)))
    }

    fn idle(&self) -> usize {
        self.slots.lock().unwrap().1
    }

    fn close_idle(&self, many: usize) {
        let mut slots = self.slots.lock().unwrap();
        let many = many.min(slots.1);
        *slots = (slots.0 - many, slots.1 - many);
    }
}

#[test]
fn loom_two_that_are_given_back_at_the_same_time_leave_the_pools_size() {
    for in_use in [2, 3] {
        model(2, move || {
            let (overflow, pool) = (Arc::new(Overflow::of(1, in_use - 1)), Small::all_in_use(in_use));
            let others: Vec<_> = (1..in_use)
                .map(|_| {
                    let (overflow, pool) = (Arc::clone(&overflow), Arc::clone(&pool));
                    thread::spawn(move || {
                        pool.give_back();
                        overflow.trim(&*pool);
                    })
                })
                .collect();
            pool.give_back();
            overflow.trim(&*pool);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(*pool.slots.lock().unwrap(), (1, 1));
        });
    }
}

#[test]
fn loom_a_pool_that_is_closed_is_not_made_large_again() {
    model(3, || {
        let (overflow, pool) = (Arc::new(Overflow::of(1, 0)), Small::all_in_use(1));
        let closes = {
            let (overflow, pool) = (Arc::clone(&overflow), Arc::clone(&pool));
            thread::spawn(move || overflow.close(|| pool.close()))
        };
        overflow.set(2, 1, |most| pool.grow(most));
        closes.join().unwrap();
        assert_eq!(pool.most.load(Relaxed), 0);
        assert!(overflow.gate.take_now().is_none());
    });
}

#[test]
fn loom_who_warms_up_a_pool_that_becomes_smaller_does_not_wait_for_more() {
    model(3, || {
        let overflow = Arc::new(Overflow::of(3, 0));
        let sets = {
            let overflow = Arc::clone(&overflow);
            thread::spawn(move || overflow.set(2, 0, |_| {}))
        };
        block_on(overflow.is_filled(|| 2));
        assert!(overflow.pool_size() <= 2);
        sets.join().unwrap();
    });
}
