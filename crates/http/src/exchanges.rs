//! Whether a connection is idle, which is the balance of what has begun on it and what has ended.

use crate::sync::{AtomicBool, AtomicU64, Relaxed, Release, SeqCst, crosswise};

pub(crate) struct Exchanges {
    http2: bool,
    /// A call has opened the connection and may be about to use it.
    claimed: AtomicBool,
    /// Requests that have begun, or with HTTP/2 answers.
    begun: AtomicU64,
    ended: AtomicU64,
    idle_since: AtomicU64,
}

impl Exchanges {
    pub(crate) fn new(http2: bool, claimed: bool, now: u64) -> Self {
        Self {
            http2,
            claimed: AtomicBool::new(claimed),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            idle_since: AtomicU64::new(now),
        }
    }

    /// Where it is idle: after how many exchanges.
    pub(crate) fn idle_after(&self) -> Option<u64> {
        let begun = self.begun.load(SeqCst);
        (begun == self.ended.load(SeqCst) && !self.claimed.load(SeqCst)).then_some(begun)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle_after().is_some()
    }

    pub(crate) fn idle_since(&self) -> u64 {
        self.idle_since.load(SeqCst)
    }

    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(SeqCst)
    }

    /// A request begins. The connection's stream alone calls this, so nobody else counts with HTTP/1.1.
    pub(crate) fn begin(&self) {
        if !self.http2 {
            self.begun.store(self.begun.load(Relaxed) + 1, Release);
        }
    }

    /// The head of an answer is there.
    pub(crate) fn answered(&self) {
        if self.http2 {
            self.begun.fetch_add(1, SeqCst);
        }
    }

    /// Says whether it is idle, as [`release`](Self::release) does: of those who end the last things at the same time, at
    /// least one finds it idle.
    pub(crate) fn end(&self, exchange: u64, now: u64) -> bool {
        // What follows publishes it.
        self.idle_since.store(now, Relaxed);
        if self.http2 {
            self.ended.fetch_add(1, SeqCst);
        } else {
            self.ended.fetch_max(exchange, SeqCst);
        }
        crosswise();
        self.is_idle()
    }

    /// The call that has opened the connection has its answer, or is over.
    pub(crate) fn release(&self) -> bool {
        self.claimed.store(false, SeqCst);
        crosswise();
        self.is_idle()
    }
}
