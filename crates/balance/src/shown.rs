//! What all calls see, and those who wait for another.

use std::sync::Arc;

use crate::sync::{Acquire, ArcSwap, AtomicBool, Listening, Looked, Notify, Release};

/// It is replaced as a whole, and then that is told: who listens before he looks misses nothing.
#[derive(Debug)]
pub(crate) struct Shown<T> {
    now: ArcSwap<T>,
    changed: Arc<Notify>,
}

impl<T> Shown<T> {
    pub(crate) fn new(first: T) -> Self {
        Self { now: ArcSwap::from_pointee(first), changed: Arc::new(Notify::new()) }
    }

    #[inline]
    pub(crate) fn look(&self) -> Looked<T> {
        self.now.load()
    }

    /// Returns what was shown before. It is still to be told.
    pub(crate) fn show(&self, next: T) -> Arc<T> {
        self.now.swap(Arc::new(next))
    }

    /// Wakes all who listen.
    pub(crate) fn tell(&self) {
        self.changed.notify_waiters();
    }

    /// Ends as soon as something is told from now on.
    pub(crate) fn listen(&self) -> Listening {
        Arc::clone(&self.changed).notified_owned()
    }
}

/// Whether something that may have been seen before is shown no more.
#[derive(Debug)]
pub(crate) struct Gone(AtomicBool);

impl Gone {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// After the next was shown: whoever finds this gone sees that.
    pub(crate) fn set(&self) {
        self.0.store(true, Release);
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Acquire)
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models {
    use std::{
        future::{Future, poll_fn},
        task::Poll,
    };

    use loom::{future::block_on, thread};

    use super::*;

    struct Endpoint(u8, Gone);

    /// As `Waiting` does: it listens, sits down at what is there, and takes what is not gone.
    #[test]
    fn loom_who_waits_sees_the_new_list_or_is_woken() {
        loom::model(|| {
            let first = Arc::new(Endpoint(1, Gone::new()));
            let shown = Arc::new(Shown::new(first.clone()));
            let other = shown.clone();
            let changes = thread::spawn(move || {
                let old = other.show(Arc::new(Endpoint(2, Gone::new())));
                old.1.set();
                other.tell();
            });
            let mut listening = Box::pin(shown.listen());
            let mut seat: Option<Arc<Endpoint>> = None;
            let taken = block_on(poll_fn(|cx| {
                loop {
                    let changed = listening.as_mut().poll(cx).is_ready();
                    if changed {
                        listening = Box::pin(shown.listen());
                    }
                    if changed || seat.is_none() {
                        seat = Some((*shown.look()).clone());
                        continue;
                    }
                    // The first one becomes ready only when it is gone.
                    let ready = seat.as_ref().filter(|seat| seat.0 == 2 && !seat.1.is_set());
                    return ready.map_or(Poll::Pending, |seat| Poll::Ready(seat.0));
                }
            }));
            assert_eq!(taken, 2);
            changes.join().unwrap();
        });
    }

    #[test]
    fn loom_who_finds_an_endpoint_gone_sees_the_next() {
        loom::model(|| {
            let first = Arc::new(Endpoint(1, Gone::new()));
            let shown = Arc::new(Shown::new(first.clone()));
            let other = shown.clone();
            let changes = thread::spawn(move || {
                let old = other.show(Arc::new(Endpoint(2, Gone::new())));
                old.1.set();
            });
            if first.1.is_set() {
                assert_eq!((*shown.look()).0, 2);
            }
            changes.join().unwrap();
            assert!(first.1.is_set());
        });
    }
}
