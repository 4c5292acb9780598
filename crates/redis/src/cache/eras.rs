use crate::{
    cache::answer::Era,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Up to which invalidation at large this process has heard of them.
#[derive(Debug, Default)]
pub(super) struct Eras(Mutex<Option<Era>>);

/// What is to be done about an era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It is the one that is known, or the first.
    Nothing,
    /// Whatever is in memory may be wrong.
    Forget,
    /// It has moved on, or gone back: Redis is to be asked again.
    Ask,
}

impl Eras {
    /// Of an answer, which may be older than others that were heard of.
    pub(super) fn note(&self, era: Era) -> Heard {
        let mut known = self.lock();
        match *known {
            Some(known) if known.birth == era.birth => Heard::Nothing,
            Some(known) if known.birth > era.birth => Heard::Ask,
            _ => match known.replace(era) {
                Some(_) => Heard::Forget,
                None => Heard::Nothing,
            },
        }
    }

    pub(super) fn known(&self) -> Option<Era> {
        *self.lock()
    }

    /// It is known up to here, if it is still the one that was known when that was asked. Else all was forgotten meanwhile.
    pub(super) fn catch_up(&self, asked: Option<Era>, era: Era) -> bool {
        let mut known = self.lock();
        let is_current = *known == asked;
        if is_current {
            *known = Some(era);
        }
        is_current
    }

    /// This process has itself begun that one, and forgotten everything.
    pub(super) fn began(&self, era: Era) {
        let mut known = self.lock();
        if known.is_none_or(|known| known.birth < era.birth) {
            *known = Some(era);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Era>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
