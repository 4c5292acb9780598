//! The atomics: real ones, or loom's when the protocol is model-checked.

pub(crate) use std::sync::atomic::Ordering::Relaxed;
#[cfg(not(buttress_loom))]
pub(crate) use std::sync::{
    Mutex, MutexGuard, OnceLock,
    atomic::{AtomicU64, AtomicUsize},
};

#[cfg(buttress_loom)]
pub(crate) use self::modelled::*;

#[cfg(buttress_loom)]
mod modelled {
    use std::sync::atomic::Ordering::{Acquire, Release};

    use loom::sync::atomic::AtomicBool;
    pub(crate) use loom::sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, AtomicUsize},
    };

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
            if let Some(value) = self.get() {
                return value;
            }
            let _turn = self.turn.lock().unwrap();
            let value = self.value.get_or_init(init);
            self.is_filled.store(true, Release);
            value
        }
    }
}
