//! Invalidations and hits at the same time.

use loom::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
};

use super::*;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(run);
}

fn tagged(epoch: u64) -> Tagged {
    Tagged::new(vec!["tag".to_owned()], epoch)
}

// loom finds fewer orders where the thread that was begun last writes: it is the first one that invalidates.

/// Whoever changes what a value is made of invalidates its tag after that. A value that was loaded before the change is hit
/// whenever it is looked at after the invalidation.
#[test]
fn loom_what_was_loaded_before_a_change_is_hit_after_its_invalidation() {
    model(|| {
        let (tags, source) = (Arc::new(Tags::new()), Arc::new(AtomicU64::new(0)));
        let (others, his) = (tags.clone(), source.clone());
        let loads = thread::spawn(move || {
            let value = tagged(others.epoch());
            let loaded = his.load(Relaxed);
            // A look in between must not have it taken for a newer one.
            others.hit(&value);
            (value, loaded)
        });
        source.store(1, Relaxed);
        tags.invalidate("tag");
        let (value, loaded) = loads.join().unwrap();
        assert!(tags.hit(&value) || loaded == 1);
    });
}

#[test]
fn loom_a_look_hides_no_invalidation_from_the_next() {
    model(|| {
        let tags = Arc::new(Tags::new());
        let value = Arc::new(tagged(tags.epoch()));
        tags.invalidate("another");
        let look = || {
            let (tags, value) = (tags.clone(), value.clone());
            thread::spawn(move || tags.hit(&value))
        };
        let looks = [look(), look()];
        tags.invalidate("tag");
        assert!(tags.hit(&value));
        looks.map(|looks| looks.join().unwrap());
        assert!(tags.hit(&value));
    });
}

#[test]
fn loom_of_two_invalidations_at_the_same_time_none_is_lost() {
    model(|| {
        let tags = Arc::new(Tags::new());
        let value = Tagged::new(vec!["one".to_owned()], tags.epoch());
        let other = Tagged::new(vec!["two".to_owned()], tags.epoch());
        let others = tags.clone();
        let invalidates = thread::spawn(move || others.invalidate("two"));
        tags.invalidate("one");
        assert!(tags.hit(&value));
        invalidates.join().unwrap();
        assert!(tags.hit(&value) && tags.hit(&other));
        assert_eq!(tags.epoch(), 2);
        assert_eq!(tags.epoch.load(SeqCst), 2);
    });
}
