//! The atomics of the protocols: real ones, or loom's when a protocol is model-checked.

pub(crate) use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

#[cfg(buttress_loom)]
pub(crate) use {
    self::modelled::*,
    loom::sync::atomic::{AtomicBool, AtomicU64},
};
#[cfg(not(buttress_loom))]
pub(crate) use {
    arc_swap::ArcSwap,
    std::sync::atomic::{AtomicBool, AtomicU64},
    tokio::sync::{Notify, futures::OwnedNotified as Listening},
};

#[cfg(not(buttress_loom))]
pub(crate) type Looked<T> = arc_swap::Guard<std::sync::Arc<T>>;

/// What loom has none of.
#[cfg(buttress_loom)]
mod modelled {
    use std::{
        future::Future,
        mem,
        pin::Pin,
        sync::{Arc, PoisonError},
        task::{Context, Poll, Waker},
    };

    use loom::sync::{
        Mutex,
        atomic::{
            AtomicUsize,
            Ordering::{Acquire, Release},
        },
    };

    pub(crate) type Looked<T> = Arc<T>;

    /// Publishes as arc-swap's does, and no more: a lock would order what it does not.
    #[derive(Debug)]
    pub(crate) struct ArcSwap<T> {
        all: std::sync::Mutex<Vec<Arc<T>>>,
        current: AtomicUsize,
    }

    impl<T> ArcSwap<T> {
        pub(crate) fn from_pointee(first: T) -> Self {
            Self { all: std::sync::Mutex::new(vec![Arc::new(first)]), current: AtomicUsize::new(0) }
        }

        fn at(&self, number: usize) -> Arc<T> {
            Arc::clone(&self.all.lock().unwrap_or_else(PoisonError::into_inner)[number])
        }

        pub(crate) fn load(&self) -> Arc<T> {
            self.at(self.current.load(Acquire))
        }

        /// By one at a time.
        pub(crate) fn swap(&self, next: Arc<T>) -> Arc<T> {
            let number = {
                let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
                all.push(next);
                all.len() - 1
            };
            self.at(self.current.swap(number, Release))
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

        pub(crate) fn notified_owned(self: Arc<Self>) -> Listening {
            let since = self.0.lock().unwrap().0;
            Listening { notify: self, since }
        }
    }

    #[derive(Debug)]
    pub(crate) struct Listening {
        notify: Arc<Notify>,
        since: u64,
    }

    impl Future for Listening {
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
