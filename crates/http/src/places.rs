use std::{
    collections::{BTreeMap, HashMap},
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress_core::{Decision, Origin, Reason};
use http::Uri;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    calls::Calls,
    connect::ConnectFailure,
    connecting::{self, Waits},
    connection::{Claim, Connection},
    demand::Demand,
    place::{Place, Waiting},
    pool_timer::PoolTimer,
    stranded::help,
    stream::Stream,
    wanted::Wanted,
};

/// How many connections there may be, and how many calls may wait for one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caps {
    pub(crate) per_host: usize,
    pub(crate) total: usize,
    pub(crate) waiting: usize,
}

/// Who has a connection, and who waits for one to be allowed.
///
/// A place is taken before connecting begins and given back when the connection's stream is dropped. It goes to whoever
/// has waited longest and whose host is below its cap. Whenever the lock is free, nobody waits whom the caps allow.
///
/// A host is what hyper's pool takes for one: scheme and authority.
pub(crate) struct Places {
    pub(crate) origin: Origin,
    pool: PoolTimer,
    start: std::time::Instant,
    book: Mutex<Book>,
    /// Somebody waits for the total, whose host is below its cap.
    scarce: Wanted,
    pub(crate) anybody_waits: AtomicBool,
    /// There may be more connections than the caps allow, since those were lowered.
    pub(crate) is_over: Wanted,
    /// How many tickets and numbers were drawn.
    pub(crate) drawn: AtomicU64,
    pub(crate) calls: Calls,
}

pub(crate) struct Book {
    pub(crate) caps: Caps,
    pub(crate) hosts: HashMap<Uri, Seats>,
    pub(crate) taken: usize,
    pub(crate) waiting: BTreeMap<u64, Waiter>,
    pub(crate) open: BTreeMap<u64, Arc<Connection>>,
    /// How many of them are to be closed.
    pub(crate) leaving: usize,
    /// Whether a task looks after those who wait.
    pub(crate) is_looked_after: bool,
    cut: bool,
}

/// A host, as long as it has a place.
#[derive(Default)]
pub(crate) struct Seats {
    taken: usize,
    /// The last one in the queue when the youngest call began that got an answer.
    pub(crate) served: u64,
}

pub(crate) struct Waiter {
    pub(crate) host: Uri,
    sender: oneshot::Sender<Place>,
}

impl Book {
    pub(crate) fn taken_by(&self, host: &Uri) -> usize {
        self.hosts.get(host).map_or(0, |seats| seats.taken)
    }

    fn new(caps: Caps) -> Self {
        Self {
            caps,
            hosts: HashMap::new(),
            taken: 0,
            waiting: BTreeMap::new(),
            open: BTreeMap::new(),
            leaving: 0,
            is_looked_after: false,
            cut: false,
        }
    }

    pub(crate) fn taken_by_hosts(&self) -> impl Iterator<Item = (&Uri, usize)> {
        self.hosts.iter().map(|(host, seats)| (host, seats.taken))
    }

    fn allows(&self, host: &Uri) -> bool {
        self.taken < self.caps.total && self.taken_by(host) < self.caps.per_host
    }

    fn take(&mut self, host: &Uri) {
        self.taken += 1;
        self.hosts.entry(host.clone()).or_default().taken += 1;
    }

    pub(crate) fn give_back(&mut self, host: &Uri) {
        self.taken -= 1;
        if let Some(seats) = self.hosts.get_mut(host) {
            seats.taken -= 1;
            if seats.taken == 0 {
                self.hosts.remove(host);
            }
        }
    }

    fn next(&mut self) -> Option<Waiter> {
        if self.taken >= self.caps.total {
            return None;
        }
        let ticket = *self.waiting.iter().find(|(_, waiter)| self.allows(&waiter.host))?.0;
        let waiter = self.waiting.remove(&ticket)?;
        self.take(&waiter.host);
        Some(waiter)
    }

    pub(crate) fn dismiss(&mut self, number: u64) {
        if let Some(connection) = self.open.get(&number)
            && !connection.has_orders()
        {
            self.leaving += 1;
            connection.leave();
        }
    }
}

impl Places {
    pub(crate) fn new(origin: Origin, caps: Caps, pool: PoolTimer) -> Self {
        Self {
            origin,
            pool,
            start: Instant::now().into_std(),
            book: Mutex::new(Book::new(caps)),
            scarce: Wanted::new(),
            anybody_waits: AtomicBool::new(false),
            is_over: Wanted::new(),
            drawn: AtomicU64::new(0),
            calls: Calls::new(),
        }
    }

    /// Nothing panics that holds it.
    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place, as long as a call waits for this.
    pub(crate) async fn place(self: Arc<Self>, host: Uri, limit: Duration) -> Result<Place, ConnectFailure> {
        let mut waiting = match self.ask(host) {
            Ok(place) => return Ok(place),
            Err(Err(reason)) => {
                if reason == Reason::Overloaded {
                    Decision::note(self.origin, "refused", || self.in_words());
                }
                return Err(self.refuse(reason));
            }
            Err(Ok(waiting)) => {
                Decision::note(self.origin, "queued", || self.in_words());
                waiting
            }
        };
        let mut comes = pin!(timeout(limit, &mut waiting.receiver));
        poll_fn(|cx| {
            // The call has got another's connection. Whoever waits behind needs the place more.
            if !connecting::in_call() {
                return Err(ConnectFailure::Unwanted).into();
            }
            let polled = comes.as_mut().poll(cx).map(|came| match came {
                Ok(Ok(place)) => Ok(place),
                Ok(Err(_cut)) => Err(self.refuse(Reason::Closed)),
                Err(_elapsed) => {
                    Decision::note(self.origin, "gave_up", || {
                        format!("no connection became free within {limit:.1?}: {}", self.in_words())
                    });
                    Err(self.refuse(Reason::Overloaded))
                }
            });
            if polled.is_pending() {
                connecting::note(Waits::Place);
            }
            polled
        })
        .await
    }

    /// For a decision. Which hosts these are is not for everybody.
    #[cold]
    fn in_words(&self) -> String {
        let (taken, waiting, Caps { per_host, total, .. }) = {
            let book = self.book();
            (book.taken, book.waiting.len(), book.caps)
        };
        format!("{taken} of {total} connections are there, at most {per_host} to one host, {waiting} waiting")
    }

    fn draw(&self) -> u64 {
        self.drawn.fetch_add(1, SeqCst) + 1
    }

    fn refuse(&self, reason: Reason) -> ConnectFailure {
        ConnectFailure::Refused(self.origin.reject(reason))
    }

    /// A place, or a place in the queue, or the reason why there is none.
    fn ask(self: &Arc<Self>, host: Uri) -> Result<Place, Result<Waiting, Reason>> {
        let mut book = self.book();
        if book.cut {
            return Err(Err(Reason::Closed));
        }
        if book.allows(&host) {
            book.take(&host);
            drop(book);
            return Ok(Place::new(Arc::clone(self), host));
        }
        if book.waiting.len() >= book.caps.waiting {
            return Err(Err(Reason::Overloaded));
        }
        let (sender, receiver) = oneshot::channel();
        let ticket = self.draw();
        book.waiting.insert(ticket, Waiter { host, sender });
        let is_looked_after = std::mem::replace(&mut book.is_looked_after, true);
        self.settle(book);
        let waiting = Waiting { places: Arc::clone(self), ticket, receiver };
        if !is_looked_after {
            // Not before: where there is no runtime, or it ends, what is made here is dropped, and takes the lock.
            tokio::spawn(help(Arc::clone(self)));
        }
        Err(Ok(waiting))
    }

    /// What every change ends with: whom the caps allow gets a place, and where the total is reached, idle connections of
    /// other hosts are closed.
    pub(crate) fn settle<'a>(self: &'a Arc<Self>, mut book: MutexGuard<'a, Book>) {
        while let Some(waiter) = book.next() {
            drop(book);
            let place = Place::new(Arc::clone(self), waiter.host);
            let sent = waiter.sender.send(place);
            book = self.book();
            if let Err(mut place) = sent {
                // He has just gone.
                place.give_back(&mut book);
            }
        }
        self.feed(&mut book);
    }

    /// Closes an idle connection, where somebody waits for the total alone. Every waiter that comes asks for one.
    fn feed(&self, book: &mut MutexGuard<'_, Book>) {
        self.close_surplus(book);
        self.anybody_waits.store(!book.waiting.is_empty(), SeqCst);
        // Before it is looked who is idle: whoever becomes idle afterwards looks here.
        self.scarce.raise();
        let demand = Demand::of(book);
        self.scarce.set(demand.is_some());
        let number = demand.filter(|demand| demand.unmet).and_then(|demand| book.idle_for(&demand));
        if let Some(number) = number {
            book.dismiss(number);
            self.close_dismissed(book);
        }
    }

    /// Closes those that are idle among the connections that are to be closed, and what has been idle longer.
    pub(crate) fn close_dismissed(&self, book: &Book) {
        let dismissed = book.open.values().filter(|open| open.has_orders() && open.is_idle());
        if let Some(idle_since) = dismissed.map(|connection| connection.idle_since()).max() {
            // hyper takes a connection back a moment before or after the answer is read to its end.
            self.pool
                .close_idle_until(self.start + Duration::from_nanos(idle_since) + Duration::from_millis(1));
        }
    }

    /// Closes all idle connections.
    pub(crate) fn close_idle(&self) {
        self.pool.close_idle_until(Instant::now().into_std() + Duration::from_secs(1));
    }

    pub(crate) fn since_start(&self) -> u64 {
        let since = Instant::now().into_std().saturating_duration_since(self.start);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// A connection has become idle.
    pub(crate) fn has_idle(&self, connection: &Connection) {
        if self.scarce.is_raised() || self.is_over.is_raised() || connection.has_orders() {
            let mut book = self.book();
            self.feed(&mut book);
            self.close_dismissed(&book);
        }
    }

    /// Whether calls are to tell which connections they use: some may have to be closed after that.
    pub(crate) fn watches(&self) -> bool {
        self.anybody_waits.load(SeqCst) || self.is_over.is_raised()
    }

    /// Whether a connection that is in use is to be closed after that, since others have waited longer than any for its
    /// host, or since it is beyond the caps. With a host that always has calls for it, hyper never lets a connection be idle.
    pub(crate) fn dismisses(&self, connection: &Connection) -> bool {
        let is_over = self.is_over.is_raised();
        if connection.has_orders() || !(is_over || self.scarce.is_raised()) {
            return connection.has_orders();
        }
        let mut book = self.book();
        // It may have ended meanwhile.
        let is_open = book.open.values().any(|open| std::ptr::eq(&raw const **open, connection));
        let dismissed = is_open
            && (is_over && book.is_beyond(connection)
                || Demand::of(&book).is_some_and(|demand| demand.may_have(connection)));
        if dismissed {
            book.leaving += 1;
            connection.leave();
        }
        dismissed
    }

    /// The stream of a new connection, which takes its place along.
    pub(crate) fn open<T>(self: &Arc<Self>, io: T, mut place: Place) -> Result<Stream<T>, ConnectFailure>
    where
        T: hyper_util::client::legacy::connect::Connection,
    {
        let in_call = connecting::in_call();
        let http2 = io.connected().is_negotiated_h2();
        let connection = Arc::new(Connection::new(place.host.clone(), http2, Arc::clone(self), in_call));
        {
            let mut book = self.book();
            if book.cut {
                drop(book);
                return Err(self.refuse(Reason::Closed));
            }
            let number = self.draw();
            book.open.insert(number, Arc::clone(&connection));
            place.number = Some(number);
        }
        if in_call {
            connecting::opened(Claim(Arc::clone(&connection)));
        } else {
            self.has_idle(&connection);
        }
        Ok(Stream::new(io, connection, place))
    }

    /// Closes what is there, and lets nobody wait any longer.
    pub(crate) fn cut(&self) {
        let waiting = {
            let mut book = self.book();
            book.cut = true;
            for connection in book.open.values() {
                connection.cut();
            }
            book.leaving = book.open.len();
            std::mem::take(&mut book.waiting)
        };
        drop(waiting);
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.book().cut
    }

    pub(crate) fn taken(&self) -> usize {
        self.book().taken
    }
}
