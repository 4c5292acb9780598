//! Atomics, locks and wakers: real ones, or loom's when a protocol is model-checked.

pub(crate) use std::sync::{
    PoisonError,
    atomic::Ordering::{Acquire, Relaxed, Release, SeqCst},
};

#[cfg(not(buttress_loom))]
pub(crate) use {
    futures_util::task::AtomicWaker,
    std::sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize},
    },
    tokio::sync::Notify,
};

#[cfg(buttress_loom)]
pub(crate) use {
    self::modelled::*,
    loom::sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize},
    },
    std::sync::Arc,
};

/// Stands between writing one word and reading another, both `SeqCst`, wherever two sides do so crosswise and at least
/// one must see the other's write.
///
/// The language promises that for `SeqCst` accesses alone, and so no instruction is needed here. loom takes them for
/// acquire and release, and knows the promise only of a fence.
#[inline(always)]
pub(crate) fn crosswise() {
    #[cfg(buttress_loom)]
    loom::sync::atomic::fence(SeqCst);
}

#[cfg(buttress_loom)]
mod modelled {
    use std::{
        future::Future,
        mem,
        pin::Pin,
        task::{Context, Poll, Waker},
    };

    use loom::sync::{Mutex, atomic::AtomicBool};

    use super::{Acquire, Release};

    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker(loom::future::AtomicWaker);

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.0.register_by_ref(waker);
        }

        pub(crate) fn wake(&self) {
            self.0.wake();
        }
    }

    /// loom has none, and does not see that who reads the standard library's comes after who filled it.
    #[derive(Debug)]
    pub(crate) struct OnceLock<T> {
        value: std::sync::OnceLock<T>,
        is_filled: AtomicBool,
        turn: Mutex<()>,
    }

    impl<T> OnceLock<T> {
        pub(crate) fn new() -> Self {
            Self {
                value: std::sync::OnceLock::new(),
                is_filled: AtomicBool::new(false),
                turn: Mutex::new(()),
            }
        }

        pub(crate) fn get(&self) -> Option<&T> {
            if self.is_filled.load(Acquire) { self.value.get() } else { None }
        }

        pub(crate) fn get_or_init(&self, init: impl FnOnce() -> T) -> &T {
            let _turn = self.turn.lock().unwrap();
            let value = self.value.get_or_init(init);
            self.is_filled.store(true, Release);
            value
        }
    }

    /// As tokio's: whoever has begun to listen hears of all that comes later.
    #[derive(Debug, Default)]
    pub(crate) struct Notify(Mutex<(u64, Vec<Waker>)>);

    impl Notify {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn notify_waiters(&self) {
            let wakers = {
                let mut state = self.0.lock().unwrap();
                state.0 += 1;
                mem::take(&mut state.1)
            };
            wakers.into_iter().for_each(Waker::wake);
        }

        pub(crate) fn notified(&self) -> Notified<'_> {
            Notified { notify: self, since: self.0.lock().unwrap().0 }
        }
    }

    #[derive(Debug)]
    pub(crate) struct Notified<'a> {
        notify: &'a Notify,
        since: u64,
    }

    impl Notified<'_> {
        pub(crate) fn enable(self: Pin<&mut Self>) -> bool {
            self.notify.0.lock().unwrap().0 != self.since
        }
    }

    impl Future for Notified<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let mut state = self.notify.0.lock().unwrap();
            if state.0 != self.since {
                return Poll::Ready(());
            }
            state.1.push(cx.waker().clone());
            Poll::Pending
        }
    }
}
