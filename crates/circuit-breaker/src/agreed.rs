//! What all of many work by, of which some are just being made.

use std::sync::PoisonError;

use crate::sync::Mutex;

#[derive(Debug)]
pub(crate) struct Agreed<S>(Mutex<S>);

impl<S: Copy + PartialEq> Agreed<S> {
    pub(crate) fn new(all: S) -> Self {
        Self(Mutex::new(all))
    }

    pub(crate) fn get(&self) -> S {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets it for all that can be seen; the others catch up.
    pub(crate) fn set(&self, all: S, configure: impl FnMut(S)) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
        self.follow(None, configure);
    }

    /// For one that can be seen since it was made with that: whoever set all meanwhile may not have seen it.
    pub(crate) fn catch_up(&self, made_with: S, configure: impl FnMut(S)) {
        self.follow(Some(made_with), configure);
    }

    /// Somebody else may do the same at the same time, and overwrite what is newer. So it is looked again after each time,
    /// and the last one's reach all.
    fn follow(&self, mut applied: Option<S>, mut configure: impl FnMut(S)) {
        loop {
            let last = self.get();
            if applied == Some(last) {
                return;
            }
            configure(last);
            applied = Some(last);
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    fn model(run: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(3);
        builder.check(run);
    }

    type All = Mutex<Vec<Arc<Mutex<u8>>>>;

    fn make(agreed: &Agreed<u8>, all: &All) {
        let made_with = agreed.get();
        let one = Arc::new(Mutex::new(made_with));
        all.lock().unwrap().push(one.clone());
        agreed.catch_up(made_with, |settings| *one.lock().unwrap() = settings);
    }

    fn set(agreed: &Agreed<u8>, all: &All, settings: u8) {
        agreed.set(settings, |settings| {
            let all = all.lock().unwrap().clone();
            all.iter().for_each(|one| *one.lock().unwrap() = settings);
        });
    }

    #[test]
    fn loom_one_that_is_made_while_all_are_configured_twice_works_by_the_last() {
        model(|| {
            let (agreed, all) = (Arc::new(Agreed::new(0)), Arc::new(All::default()));
            let (others, theirs) = (agreed.clone(), all.clone());
            let sets = thread::spawn(move || {
                set(&others, &theirs, 1);
                set(&others, &theirs, 2);
            });
            make(&agreed, &all);
            sets.join().unwrap();
            assert_eq!(*all.lock().unwrap()[0].lock().unwrap(), 2);
        });
    }

    #[test]
    fn loom_of_two_who_configure_all_at_the_same_time_one_reaches_all() {
        model(|| {
            let (agreed, all) = (Arc::new(Agreed::new(0)), Arc::new(All::default()));
            make(&agreed, &all);
            make(&agreed, &all);
            let (others, theirs) = (agreed.clone(), all.clone());
            let sets = thread::spawn(move || set(&others, &theirs, 1));
            set(&agreed, &all, 2);
            sets.join().unwrap();
            let last = agreed.get();
            assert!(all.lock().unwrap().iter().all(|one| *one.lock().unwrap() == last));
        });
    }
}
