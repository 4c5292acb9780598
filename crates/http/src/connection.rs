use std::{fmt, sync::Arc, task::Waker};

use http::Uri;
use hyper_util::client::legacy::connect::Connected;

use crate::{exchanges::Exchanges, orders::Orders, places::Places};

/// What is known of an open connection beside its stream.
///
/// It says whether the connection is idle. With HTTP/1.1, the stream counts the requests that begin, and an answer that was
/// read to its end tells which of them it belonged to: the connection is idle where the last one has ended. (A request that
/// goes on after its answer has begun looks like another one, so its connection is not idle before the next has ended.)
/// With HTTP/2, it is idle where no answer is being read; a call that waits for one is not known, and need not be: its
/// stream outlives the connection's place in hyper's pool.
pub(crate) struct Connection {
    pub(crate) host: Uri,
    pub(crate) http2: bool,
    places: Arc<Places>,
    exchanges: Exchanges,
    orders: Orders,
}

impl Connection {
    pub(crate) fn new(host: Uri, http2: bool, places: Arc<Places>, claimed: bool) -> Self {
        let exchanges = Exchanges::new(http2, claimed, places.since_start());
        Self { host, http2, places, exchanges, orders: Orders::new() }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.exchanges.is_idle()
    }

    /// Where it is idle: after how many exchanges.
    pub(crate) fn idle_after(&self) -> Option<u64> {
        self.exchanges.idle_after()
    }

    /// Nanoseconds from the client's start to its last exchange's end.
    pub(crate) fn idle_since(&self) -> u64 {
        self.exchanges.idle_since()
    }

    /// It is to be closed after what it is used for now.
    pub(crate) fn leave(&self) {
        self.orders.leave();
    }

    /// Closes it at once.
    pub(crate) fn cut(&self) {
        self.orders.cut();
    }

    pub(crate) fn has_orders(&self) -> bool {
        self.orders.are_to_close()
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.orders.is_cut()
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.orders.is_given_up()
    }

    /// Whether it may have woken its waker, which it then has no longer.
    pub(crate) fn has_woken(&self) -> bool {
        self.orders.have_woken()
    }

    /// Whom a cut wakes, and who gives it up. Whoever goes to sleep must look for it after this.
    pub(crate) fn wakes(&self, waker: &Waker) {
        self.orders.wake(waker);
    }

    /// Its stream alone calls this, so nobody else counts with HTTP/1.1.
    pub(crate) fn begin(&self) {
        self.exchanges.begin();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("idle", &self.is_idle()).finish_non_exhaustive()
    }
}

/// A call's hold on the connection that it has opened, until it has its answer or is over.
#[derive(Debug)]
pub(crate) struct Claim(pub(crate) Arc<Connection>);

impl Drop for Claim {
    fn drop(&mut self) {
        if self.0.exchanges.release() {
            self.0.places.has_idle(&self.0);
        }
    }
}

/// An exchange of a connection, which hyper puts into the answer's extensions.
pub(crate) struct Exchange {
    connection: Arc<Connection>,
    number: u64,
}

impl Exchange {
    pub(crate) fn of(connection: Arc<Connection>) -> Self {
        let number = connection.exchanges.begun();
        Self { connection, number }
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self) {
        self.connection.exchanges.answered();
    }

    /// There will be no answer. With HTTP/2, others use the connection.
    pub(crate) fn give_up(&self, connected: &Connected) {
        if !self.connection.http2 {
            // Before: the pool must not take it back.
            connected.poison();
            self.connection.orders.give_up();
        }
    }

    pub(crate) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn end(&self) {
        let places = &self.connection.places;
        if self.connection.exchanges.end(self.number, places.since_start()) {
            places.has_idle(&self.connection);
        }
    }
}

/// hyper copies it for every answer, before it lets go of the connection: what has begun until then is the answer's own
/// request.
impl Clone for Exchange {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.connection))
    }
}
