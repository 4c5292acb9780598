use buttress_testkit::models::model;
use loom::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::*;

/// A task that runs until it is dropped.
struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(running: &Arc<AtomicUsize>) -> Self {
        running.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(running))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn loom_a_task_that_begins_while_the_pool_is_closed_ends() {
    model(3, || {
        let (post, running) = (Arc::new(Post::default()), Arc::new(AtomicUsize::new(0)));
        let others = [(); 2].map(|()| {
            let (post, running) = (Arc::clone(&post), Arc::clone(&running));
            thread::spawn(move || post.fill(Running::begin(&running)))
        });
        post.give_up();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(running.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn loom_of_two_that_begin_one_stays() {
    model(3, || {
        let (post, running) = (Arc::new(Post::default()), Arc::new(AtomicUsize::new(0)));
        let other = {
            let (post, running) = (Arc::clone(&post), Arc::clone(&running));
            thread::spawn(move || post.fill(Running::begin(&running)))
        };
        post.fill(Running::begin(&running));
        other.join().unwrap();
        assert_eq!(running.load(Ordering::Relaxed), 1);
        post.give_up();
        assert_eq!(running.load(Ordering::Relaxed), 0);
    });
}
