use crate::nanos::Nanos;

/// What a server counts. The areas are integrals over time, exact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub(crate) attempts: u64,
    pub(crate) served: u64,
    pub(crate) wasted: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    pub(crate) left: u64,
    /// How many a worker has begun with, and how long they had waited in all.
    pub(crate) started: u64,
    pub(crate) waited: u128,
    /// How many have left the backend that had come into it, and how long they were there in all.
    pub(crate) departed: u64,
    pub(crate) stayed: u128,
    pub(crate) busy_area: u128,
    pub(crate) queue_area: u128,
    pub(crate) until: Nanos,
    pub(crate) peak_queue: usize,
    pub(crate) peak_in_flight: usize,
    /// The same since the last sample.
    pub(crate) recent_queue: usize,
    pub(crate) recent_in_flight: usize,
}

impl Figures {
    /// Before anything changes.
    pub(crate) fn pass(&mut self, now: Nanos, busy: usize, queued: usize) {
        let time = u128::from(now - self.until);
        self.busy_area += time * busy as u128;
        self.queue_area += time * queued as u128;
        self.until = now;
    }

    /// After something was added.
    pub(crate) fn peak(&mut self, busy: usize, queued: usize) {
        self.peak_queue = self.peak_queue.max(queued);
        self.peak_in_flight = self.peak_in_flight.max(busy + queued);
        self.recent_queue = self.recent_queue.max(queued);
        self.recent_in_flight = self.recent_in_flight.max(busy + queued);
    }
}
