use std::{
    fmt,
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU8, AtomicU64,
            Ordering::{Relaxed, Release, SeqCst},
        },
    },
    task::Waker,
};

use futures_util::task::AtomicWaker;
use http::Uri;
use hyper_util::client::legacy::connect::Connected;

use crate::places::Places;

const LEAVES: u8 = 1;
const CUT: u8 = 2;
const GIVEN_UP: u8 = 4;

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
    /// A call has opened it and may be about to use it.
    claimed: AtomicBool,
    /// Requests that have begun, or with HTTP/2 answers.
    begun: AtomicU64,
    ended: AtomicU64,
    idle_since: AtomicU64,
    orders: AtomicU8,
    waker: AtomicWaker,
}

impl Connection {
    pub(crate) fn new(host: Uri, http2: bool, places: Arc<Places>, claimed: bool) -> Self {
        let idle_since = AtomicU64::new(places.since_start());
        Self {
            host,
            http2,
            places,
            claimed: AtomicBool::new(claimed),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            idle_since,
            orders: AtomicU8::new(0),
            waker: AtomicWaker::new(),
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.idle_after().is_some()
    }

    /// Where it is idle: after how many exchanges.
    pub(crate) fn idle_after(&self) -> Option<u64> {
        let begun = self.begun.load(SeqCst);
        (begun == self.ended.load(SeqCst) && !self.claimed.load(SeqCst)).then_some(begun)
    }

    /// Nanoseconds from the client's start to its last exchange's end.
    pub(crate) fn idle_since(&self) -> u64 {
        self.idle_since.load(SeqCst)
    }

    /// It is to be closed after what it is used for now.
    pub(crate) fn leave(&self) {
        self.orders.fetch_or(LEAVES, SeqCst);
    }

    /// Closes it at once.
    pub(crate) fn cut(&self) {
        self.orders.fetch_or(CUT, SeqCst);
        self.waker.wake();
    }

    pub(crate) fn has_orders(&self) -> bool {
        self.orders.load(SeqCst) & (LEAVES | CUT) != 0
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.orders.load(SeqCst) & CUT != 0
    }

    /// The call that has it to itself is over, and nobody will get it after that: what is left to write need not be.
    fn give_up(&self) {
        self.orders.fetch_or(GIVEN_UP, SeqCst);
        self.waker.wake();
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.orders.load(SeqCst) & GIVEN_UP != 0
    }

    /// Whether it may have woken its waker, which it then has no longer.
    pub(crate) fn has_woken(&self) -> bool {
        self.orders.load(SeqCst) & (CUT | GIVEN_UP) != 0
    }

    /// Whom a cut wakes, and who gives it up. Whoever goes to sleep must look for it after this.
    pub(crate) fn wakes(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Its stream alone calls this, so nobody else counts with HTTP/1.1.
    pub(crate) fn begin(&self) {
        if !self.http2 {
            self.begun.store(self.begun.load(Relaxed) + 1, Release);
        }
    }

    fn end(&self, exchange: u64) {
        // What follows publishes it.
        self.idle_since.store(self.places.since_start(), Relaxed);
        if self.http2 {
            self.ended.fetch_add(1, SeqCst);
        } else {
            self.ended.fetch_max(exchange, SeqCst);
        }
        self.may_be_idle();
    }

    fn may_be_idle(&self) {
        if self.is_idle() {
            self.places.has_idle(self);
        }
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
        self.0.claimed.store(false, SeqCst);
        self.0.may_be_idle();
    }
}

/// An exchange of a connection, which hyper puts into the answer's extensions.
pub(crate) struct Exchange {
    connection: Arc<Connection>,
    number: u64,
}

impl Exchange {
    pub(crate) fn of(connection: Arc<Connection>) -> Self {
        let number = connection.begun.load(SeqCst);
        Self { connection, number }
    }

    /// The head of the answer is there.
    pub(crate) fn answered(&self) {
        if self.connection.http2 {
            self.connection.begun.fetch_add(1, SeqCst);
        }
    }

    /// There will be no answer. With HTTP/2, others use the connection.
    pub(crate) fn give_up(&self, connected: &Connected) {
        if !self.connection.http2 {
            // Before: the pool must not take it back.
            connected.poison();
            self.connection.give_up();
        }
    }

    pub(crate) const fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    pub(crate) fn end(&self) {
        self.connection.end(self.number);
    }
}

/// hyper copies it for every answer, before it lets go of the connection: what has begun until then is the answer's own
/// request.
impl Clone for Exchange {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.connection))
    }
}
