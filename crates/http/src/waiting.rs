use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::upload::{Progress, Turn};

/// How long a call has waited for the head of its answer, for
/// [`first_byte_timeout`](crate::Builder::first_byte_timeout).
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) limit: Duration,
    upload: Option<Arc<Progress>>,
    /// Since the call was first seen to wait with its connection made.
    since: Option<Instant>,
}

impl Waiting {
    pub(crate) fn new(limit: Duration, upload: Option<Arc<Progress>>) -> Self {
        Self { limit, upload, since: None }
    }

    /// When the time is up, as things stand; `None` while the connection is being made.
    pub(crate) fn due(&mut self, connecting: bool) -> Option<Instant> {
        if connecting {
            // hyper may have given up one connection for another.
            self.since = None;
            return None;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let from = match self.upload.as_deref().map_or(Turn::Servers(None), Progress::turn) {
            Turn::Servers(taken) => taken.map_or(since, |taken| taken.max(since)),
            // The upload wakes nobody here. So it is looked at again when the time would be up if it ended right now.
            Turn::Ours => Instant::now(),
        };
        Some(from + self.limit)
    }
}
