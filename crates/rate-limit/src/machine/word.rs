use super::{Fixed, Gcra, Wait};

/// An algorithm whose whole state is one word. A greater word is one of which more was taken.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Word {
    Gcra(Gcra),
    Fixed(Fixed),
}

impl Word {
    /// The state whose past does not matter.
    pub(crate) const IDLE: u64 = 0;

    /// The state after.
    #[inline]
    pub(crate) fn take(self, word: u64, units: u32, since: u64, now: u64) -> Result<u64, Wait> {
        match self {
            Self::Gcra(gcra) => gcra.take(word, units, since, now),
            Self::Fixed(fixed) => fixed.take(word, units, now),
        }
    }

    pub(crate) fn wait(self, word: u64, units: u64, now: u64) -> u64 {
        match self {
            Self::Gcra(gcra) => gcra.wait(word, units, now),
            Self::Fixed(fixed) => fixed.wait(word, units, now),
        }
    }

    pub(crate) fn available(self, word: u64, now: u64) -> u32 {
        match self {
            Self::Gcra(gcra) => gcra.available(word, now),
            Self::Fixed(fixed) => fixed.available(word, now),
        }
    }

    pub(crate) fn give_back(self, word: u64, units: u32, taken: u64, now: u64) -> u64 {
        match self {
            Self::Gcra(gcra) => gcra.give_back(word, units, taken, now),
            Self::Fixed(fixed) => fixed.give_back(word, units, taken),
        }
    }

    #[inline]
    pub(crate) fn idle_after(self, word: u64, now: u64) -> u64 {
        match self {
            Self::Gcra(_) => word.saturating_sub(now),
            Self::Fixed(fixed) => fixed.idle_after(word, now),
        }
    }
}
