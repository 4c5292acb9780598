use buttress_testkit::models::model;
use loom::{cell::UnsafeCell, thread};

use super::*;

/// What only the one whose turn it is may touch. loom sees when two do.
#[derive(Default)]
struct Work(UnsafeCell<u8>);

impl Work {
    fn touch(&self) {
        self.0.with_mut(|_| thread::yield_now());
    }
}

#[test]
fn loom_it_is_one_at_a_time_and_each_sees_what_the_last_has_done() {
    model(3, || {
        let (turn, work) = (Arc::new(Turn::default()), Arc::new(Work::default()));
        let others = [(); 2].map(|()| {
            let (turn, work) = (Arc::clone(&turn), Arc::clone(&work));
            thread::spawn(move || turn.take().map(|_taken| work.touch()))
        });
        let mine = turn.take().map(|_taken| work.touch());
        let done: Vec<_> = others.into_iter().map(|other| other.join().unwrap()).chain([mine]).collect();
        assert!(done.iter().any(Option::is_some));
        assert!(!turn.is_taken() && turn.take().is_some(), "nobody has it any more");
    });
}
