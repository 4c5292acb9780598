//! Lets a call know whether it still waits for its connection to be made.
//!
//! hyper polls the connector inside the poll of the call that waits for it, until the call has a connection, be it that
//! one or another's. So whatever the last poll did not touch is no longer waited for. Should hyper one day poll it
//! elsewhere, calls only seem to have been sent that were not.

use std::cell::Cell;

use tokio::time::Instant;

thread_local! {
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Runs one poll of a call, and tells since when the connection is being made that it was left waiting for.
pub(crate) fn watch<R>(poll: impl FnOnce() -> R) -> (R, Option<Instant>) {
    let outside = SINCE.replace(None);
    let result = poll();
    (result, SINCE.replace(outside))
}

/// What is being polled waits for a connection that is being made since then.
pub(crate) fn note(since: Instant) {
    SINCE.set(Some(since));
}
