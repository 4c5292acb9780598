use crate::sync::{AtomicUsize, Ordering::Relaxed};

/// How many statements may have been carried out, of those that share a call. They are counted, since one that takes back
/// its own word must not take back that of others, which were sent meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Sent(AtomicUsize);

impl Sent {
    /// The server may begin to carry one out.
    pub(crate) fn tell(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    /// It did not begin.
    pub(crate) fn take_back(&self) {
        self.0.fetch_sub(1, Relaxed);
    }

    pub(crate) fn any(&self) -> bool {
        self.0.load(Relaxed) > 0
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
