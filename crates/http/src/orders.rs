//! What a connection is told from outside.

use std::task::Waker;

use crate::sync::{AtomicU8, AtomicWaker, SeqCst};

const LEAVES: u8 = 1;
const CUT: u8 = 2;
const GIVEN_UP: u8 = 4;

pub(crate) struct Orders {
    word: AtomicU8,
    waker: AtomicWaker,
}

impl Orders {
    pub(crate) fn new() -> Self {
        Self { word: AtomicU8::new(0), waker: AtomicWaker::new() }
    }

    /// It is to be closed after what it is used for now.
    pub(crate) fn leave(&self) {
        self.word.fetch_or(LEAVES, SeqCst);
    }

    /// Closes it at once.
    pub(crate) fn cut(&self) {
        self.word.fetch_or(CUT, SeqCst);
        self.waker.wake();
    }

    /// The call that has it to itself is over, and nobody will get it after that: what is left to write need not be.
    pub(crate) fn give_up(&self) {
        self.word.fetch_or(GIVEN_UP, SeqCst);
        self.waker.wake();
    }

    /// Whether it is to be closed.
    pub(crate) fn are_to_close(&self) -> bool {
        self.has(LEAVES | CUT)
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.has(CUT)
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.has(GIVEN_UP)
    }

    /// Whether it may have woken its waker, which it then has no longer.
    pub(crate) fn have_woken(&self) -> bool {
        self.has(CUT | GIVEN_UP)
    }

    fn has(&self, any: u8) -> bool {
        self.word.load(SeqCst) & any != 0
    }

    /// Whom a cut wakes, and who gives it up. Whoever goes to sleep must look for it after this.
    pub(crate) fn wake(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
