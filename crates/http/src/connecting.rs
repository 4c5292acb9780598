//! Lets a call know what its last poll waited for, and a connector whether a call still waits for it.
//!
//! hyper polls the connector inside the poll of the call that waits for it, until the call has a connection, be it that
//! one or another's. From then on a task of its own polls it. So whatever the last poll did not touch is no longer waited
//! for. Should hyper one day poll it elsewhere, calls only seem to have been sent that were not.

use std::cell::Cell;

use tokio::time::Instant;

use crate::connection::Claim;

/// What a poll saw.
#[derive(Clone, Copy, Default)]
struct Seen {
    in_call: bool,
    opened: bool,
    waits: Option<Waits>,
}

/// What a call waits for before its request can be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waits {
    /// For a connection to be allowed.
    Place,
    /// For the connection that is being made since then.
    Connection(Instant),
}

thread_local! {
    static SEEN: Cell<Seen> = const { Cell::new(Seen { in_call: false, opened: false, waits: None }) };
    static OPENED: Cell<Option<Claim>> = const { Cell::new(None) };
}

/// Puts back what was seen outside, also where the poll panics: a connection that it had opened is then nobody's.
struct Outside(Seen);

impl Drop for Outside {
    fn drop(&mut self) {
        if SEEN.replace(self.0).opened {
            drop(OPENED.take());
        }
    }
}

/// What a poll of a call left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// What the call waits for.
    pub(crate) waits: Option<Waits>,
    /// The connection that it opened for itself.
    pub(crate) claim: Option<Claim>,
}

/// Runs one poll of a call. What is left comes by reference, because an answer is too large to be moved once more.
pub(crate) fn watch<R>(left: &mut Left, poll: impl FnOnce() -> R) -> R {
    let _outside = Outside(SEEN.replace(Seen { in_call: true, ..Seen::default() }));
    let result = poll();
    let seen = SEEN.get();
    left.waits = seen.waits;
    if seen.opened {
        left.claim = OPENED.take();
    }
    result
}

/// Whether a call is being polled, and not a task that finishes what the call no longer waits for.
pub(crate) fn in_call() -> bool {
    SEEN.get().in_call
}

/// What is being polled waits for that.
pub(crate) fn note(waits: Waits) {
    SEEN.set(Seen { waits: Some(waits), ..SEEN.get() });
}

/// The call that is being polled has opened a connection.
pub(crate) fn opened(claim: Claim) {
    SEEN.set(Seen { opened: true, ..SEEN.get() });
    OPENED.set(Some(claim));
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind},
        sync::Arc,
        time::Duration,
    };

    use buttress_core::Origin;
    use http::Uri;

    use super::*;
    use crate::{
        connection::Connection,
        places::{Caps, Places},
        pool_timer::PoolTimer,
    };

    #[tokio::test]
    async fn a_call_that_panics_lets_go_of_what_it_opened() {
        let caps = Caps { per_host: 1, total: 1, waiting: 1 };
        let timer = PoolTimer::new(Duration::from_secs(1), &Arc::default());
        let places = Arc::new(Places::new(Origin::new("http", "panics"), caps, timer));
        let connection = Arc::new(Connection::new(Uri::from_static("http://host/"), false, places, true));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            watch(&mut Left::default(), || {
                opened(Claim(Arc::clone(&connection)));
                panic!("on purpose");
            })
        }));
        assert!(panicked.is_err());
        assert!(connection.is_idle(), "it is claimed by a call that is no more");

        let mut left = Left::default();
        watch(&mut left, || opened(Claim(Arc::clone(&connection))));
        assert!(left.claim.is_some());
    }
}
