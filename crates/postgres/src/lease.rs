use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{runtime::Handle, time::timeout};

use crate::{
    cancel::Canceller, connection::Connection, connector::given_back, departures::Departures, gate::Borrowed,
    postgres::Shared,
};

/// A connection on loan. From [`occupy`](Self::occupy) until [`settle`](Self::settle) something is unfinished on it;
/// if the lease is dropped in between, by a cancelled future or a panic, the connection is never handed on: its place
/// in the pool is free at once, and what runs on it is cancelled in the background.
pub(crate) struct Lease<'a> {
    object: Option<Borrowed>,
    shared: &'a Shared,
    occupied: bool,
}

impl<'a> Lease<'a> {
    pub(crate) fn new(object: Borrowed, shared: &'a Shared) -> Self {
        Self { object: Some(object), shared, occupied: false }
    }

    pub(crate) fn connection(&self) -> &Connection {
        self.object.as_ref().expect("it is only taken where the lease ends")
    }

    /// From now on something may be unfinished.
    pub(crate) fn occupy(&mut self) {
        self.occupied = true;
    }

    /// Nothing is unfinished any more: the connection goes back, if it is fit for others.
    pub(crate) fn settle(mut self, fit: bool) {
        self.occupied = false;
        if !fit {
            self.end();
        }
    }

    /// Gives the connection into other hands, whatever is unfinished on it.
    pub(crate) fn into_object(mut self) -> Borrowed {
        self.occupied = false;
        self.object.take().expect("it is only taken where the lease ends")
    }

    fn end(&mut self) {
        if let Some(object) = self.object.take() {
            self.shared.counters.discarded.fetch_add(1, Relaxed);
            let connector = self.shared.pool.manager();
            let ending = Ending::new(object, &connector.departures, connector.overflow.pool_size());
            // Without a runtime it is closed, and the server ends what runs on it when it next wants to write.
            if !ending.connection().client.is_closed()
                && let Ok(runtime) = Handle::try_current()
            {
                runtime.spawn(ending.cancel(Arc::clone(&self.shared.canceller)));
            }
            self.shared.refill.start(&self.shared.pool);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.occupied {
            self.shared.counters.cancelled.fetch_add(1, Relaxed);
            self.end();
        } else if let Some(object) = self.object.take() {
            drop(object);
            given_back(&self.shared.pool);
        }
    }
}

/// A connection that is being ended. Its place in the pool is free already, unless as many as the pool is large are
/// ending: then it is free when this has ended, lest a server that is too slow to cancel be given ever more connections.
/// That is the size without the overflow: as many places are left to callers, when all the others are taken by such.
struct Ending {
    object: Option<Borrowed>,
    detached: Option<Connection>,
    departures: Arc<Departures>,
}

impl Ending {
    fn new(object: Borrowed, departures: &Arc<Departures>, most: usize) -> Self {
        let departures = Arc::clone(departures);
        if departures.begin() < most {
            Self { object: None, detached: Some(object.take()), departures }
        } else {
            Self { object: Some(object), detached: None, departures }
        }
    }

    fn connection(&self) -> &Connection {
        self.object.as_deref().or(self.detached.as_ref()).expect("it is one or the other until it is dropped")
    }
}

/// How long the server is given to answer after each request to cancel.
const PATIENCE: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];
/// For the extra connection that carries a request.
const REQUEST_LIMIT: Duration = Duration::from_secs(1);

impl Ending {
    /// The connection is not used again: the driver does not wait until a request has arrived, so a late one could hit
    /// the next borrower's statement.
    ///
    /// A request to cancel that overtakes the statement does nothing, hence an empty query behind the statement, whose
    /// answer tells that all is over, and another request if it does not come. Closing alone would let the statement
    /// run on, since the server does not look at the connection while it works.
    async fn cancel(self, canceller: Arc<Canceller>) {
        let client = &self.connection().client;
        let token = client.cancel_token();
        let mut over = pin!(client.batch_execute(""));
        for patience in PATIENCE {
            let _requested = timeout(REQUEST_LIMIT, canceller.request(&token)).await;
            if timeout(patience, &mut over).await.is_ok() {
                return;
            }
        }
        tracing::warn!("an abandoned statement did not end when it was cancelled; its connection is closed");
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        // Not just dropped, which would hand it on.
        drop(self.object.take().map(Borrowed::take));
        drop(self.detached.take());
        self.departures.end();
    }
}
