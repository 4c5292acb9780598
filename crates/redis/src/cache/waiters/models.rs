use buttress_testkit::models::model;
use loom::{
    future::block_on,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use super::*;

const LOCK: Bytes = Bytes::from_static(b"a");

/// As many as wait: each registers before it looks whether the lock is taken.
async fn wait(waiters: &Waiters, taken: &AtomicBool) {
    let waiter = waiters.register(&LOCK);
    if taken.load(Relaxed) {
        waiter.woken().await;
    }
}

#[test]
fn loom_who_registers_before_he_looks_is_woken() {
    for all in [false, true] {
        model(2, move || {
            let (waiters, taken) = (Arc::new(Waiters::default()), Arc::new(AtomicBool::new(true)));
            let releases = {
                let (waiters, taken) = (Arc::clone(&waiters), Arc::clone(&taken));
                thread::spawn(move || {
                    taken.store(false, Relaxed);
                    if all { waiters.wake_all() } else { waiters.wake(&LOCK) }
                })
            };
            let other = {
                let (waiters, taken) = (Arc::clone(&waiters), Arc::clone(&taken));
                thread::spawn(move || block_on(wait(&waiters, &taken)))
            };
            block_on(wait(&waiters, &taken));
            other.join().unwrap();
            releases.join().unwrap();
            assert_eq!(waiters.len(), 0);
        });
    }
}

#[test]
fn loom_who_leaves_takes_nobody_elses_place() {
    model(3, || {
        let waiters = Arc::new(Waiters::default());
        let mine = waiters.register(&LOCK);
        let leaves = {
            let waiters = Arc::clone(&waiters);
            thread::spawn(move || drop(waiters.register(&LOCK)))
        };
        waiters.wake(&LOCK);
        block_on(mine.woken());
        leaves.join().unwrap();
        assert_eq!(waiters.len(), 1);
        drop(mine);
        assert_eq!(waiters.len(), 0);
    });
}
