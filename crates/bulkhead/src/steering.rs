//! A limit that is set for all of many, of which some are just being made.

use crate::sync::{AtomicU32, Mutex, SeqCst, lock};

#[derive(Debug)]
pub(crate) struct Steering {
    /// Zero where they are as configured.
    limit: AtomicU32,
    /// Whoever sets it has this.
    turn: Mutex<()>,
}

impl Steering {
    pub(crate) fn new() -> Self {
        Self { limit: AtomicU32::new(0), turn: Mutex::new(()) }
    }

    /// What is made now is to begin with.
    pub(crate) fn limit(&self) -> u32 {
        self.limit.load(SeqCst)
    }

    /// For one that can be seen since it was made with that. `set` writes the limit before it looks at all, where it may
    /// not have found this one. Says whether it had to be set.
    pub(crate) fn catch_up(&self, made_with: u32, set: impl FnOnce(u32)) -> bool {
        let is_behind = self.limit() != made_with;
        if is_behind {
            let _one_at_a_time = lock(&self.turn);
            set(self.limit());
        }
        is_behind
    }

    /// Sets it for all that can be seen.
    pub(crate) fn set<R>(&self, limit: u32, set_all: impl FnOnce() -> R) -> R {
        let _one_at_a_time = lock(&self.turn);
        self.limit.store(limit, SeqCst);
        set_all()
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    type All = Mutex<Vec<Arc<AtomicU32>>>;

    fn set(steering: &Steering, all: &All, limit: u32) {
        steering.set(limit, || {
            let all = all.lock().unwrap().clone();
            all.iter().for_each(|one| one.store(limit, SeqCst));
        });
    }

    fn make(steering: &Steering, all: &All) {
        let made_with = steering.limit();
        let one = Arc::new(AtomicU32::new(made_with));
        all.lock().unwrap().push(one.clone());
        steering.catch_up(made_with, |limit| one.store(limit, SeqCst));
    }

    #[test]
    fn loom_one_that_is_made_while_the_limit_of_all_is_set_twice_has_the_last() {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(|| {
            let (steering, all) = (Arc::new(Steering::new()), Arc::new(All::default()));
            let (others, theirs) = (steering.clone(), all.clone());
            let makes = thread::spawn(move || make(&others, &theirs));
            let (others, theirs) = (steering.clone(), all.clone());
            let sets = thread::spawn(move || set(&others, &theirs, 2));
            set(&steering, &all, 1);
            sets.join().unwrap();
            makes.join().unwrap();
            assert_eq!(all.lock().unwrap()[0].load(SeqCst), steering.limit());
        });
    }
}
