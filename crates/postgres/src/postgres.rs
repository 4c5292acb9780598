use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Deadline, Decision, Origin, Reason, Setting};
use deadpool::{
    Runtime,
    managed::{Pool, PoolError, QueueMode, Status, TimeoutType, Timeouts},
};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    ConnectError, Error, InvalidConfig, PostgresConfig, Query, Rows,
    cancel::Canceller,
    connection::Call,
    connector::{CONNECTING_SINCE, Connector},
    gate::{Borrowed, NoPlace},
    lease::Lease,
    observe::{Counters, Waiting},
    reaper::Reaper,
    recent::RecentTexts,
    refill::Refill,
    statistics::Statistics,
    within::{Late, within},
};

/// A Postgres database: a [`Service`] of [`Query`], over a pool of connections. Clones share the pool.
///
/// See the [crate's documentation](crate) for what it guarantees.
#[derive(Clone)]
pub struct Postgres {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) origin: Origin,
    pub(crate) pool: Pool<Connector>,
    pub(crate) canceller: Arc<Canceller>,
    pub(crate) texts: RecentTexts,
    pub(crate) statistics: Arc<Statistics>,
    pub(crate) counters: Counters,
    pub(crate) refill: Refill,
    pub(crate) reaper: Reaper,
    pub(crate) connect_timeout: Duration,
    pub(crate) recycle_timeout: Duration,
    pub(crate) settings: Box<[Setting]>,
}

impl Postgres {
    /// Makes the pool. It does no I/O: connections are made when they are needed.
    ///
    /// # Errors
    /// If the configuration cannot be: an empty pool, or a timeout of zero.
    #[allow(
        clippy::missing_panics_doc,
        reason = "the builder only fails where there is no runtime for timeouts"
    )]
    pub fn new(config: PostgresConfig) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let pool = Pool::builder(Connector::new(&config))
            .max_size(config.pool_size + config.knobs.max_overflow)
            // The connection that was used last is the likeliest to be alive, and what is too many is left idle.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts {
                wait: Some(config.wait_timeout),
                create: Some(config.connect_timeout),
                recycle: Some(config.recycle_timeout),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with a runtime can have timeouts");
        let origin = Origin::new("postgres", &config.name);
        let statistics = Arc::new(Statistics::new(origin, config.slow_query));
        Ok(Self {
            shared: Arc::new(Shared {
                origin,
                pool,
                canceller: Arc::new(Canceller::new(&config)),
                texts: RecentTexts::new(Arc::clone(&statistics)),
                statistics,
                counters: Counters::default(),
                refill: Refill::default(),
                reaper: Reaper::new(&config),
                connect_timeout: config.connect_timeout,
                recycle_timeout: config.recycle_timeout,
                settings: config.settings(),
            }),
        })
    }

    /// Runs one statement: what [`Service::call`] does, for whoever has no use for layers.
    ///
    /// # Errors
    /// See [`Error`].
    ///
    /// # Cancellation
    /// Dropped unfinished, the statement is cancelled on the server, and its connection is discarded.
    pub async fn query(&self, query: Query) -> Result<Rows, Error> {
        self.shared.query(&query).await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Service<Query> for Postgres {
    type Response = Rows;
    type Error = Error;
    // Boxed: this is I/O, where a round trip of tens of microseconds at least dwarfs one allocation, and what the driver
    // and the pool return cannot be named.
    type Future = Pin<Box<dyn Future<Output = Result<Rows, Error>> + Send>>;

    /// Always ready: the pool's queue is fair and is waited in by the call, where it is bounded by the wait timeout and
    /// the deadline. A place taken here and never used would be lost to others.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, query: Query) -> Self::Future {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move { shared.query(&query).await })
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres")
            .field("name", &self.shared.origin.name())
            .field("pool", &self.shared.pool.status())
            .finish()
    }
}

impl Shared {
    pub(crate) async fn query(&self, query: &Query) -> Result<Rows, Error> {
        let wrong = |cause| Error::Query { instance: self.origin, cause };
        let parsed = self.texts.parse(query.text()).map_err(wrong)?;
        let params = query.resolve(&parsed).map_err(wrong)?;
        let deadline = self.deadline()?;
        self.counters.queries.fetch_add(1, Relaxed);
        let call = Call::new(self.origin, &parsed, &params);
        #[cfg(feature = "cache")]
        let call = call.kept_as(query);
        self.on_connection(deadline, &call).await
    }

    /// The ambient deadline, unless it has passed.
    pub(crate) fn deadline(&self) -> Result<Option<Deadline>, Error> {
        match Deadline::current() {
            Some(deadline) if deadline.instant() <= Instant::now() => {
                Err(self.origin.reject(Reason::DeadlineExceeded).into())
            }
            deadline => Ok(deadline),
        }
    }

    /// The deadline passed while the server was being asked something.
    pub(crate) fn no_answer(&self, sent: bool) -> Error {
        self.note("gave_up", || "the caller's deadline passed before the server's answer".into());
        if sent {
            self.origin.reject(Reason::DeadlineExceeded).after_sending().into()
        } else {
            // It did not even answer what has no effect yet, which "not sent" alone would not hold against it.
            self.origin.reject(Reason::TimedOut).into()
        }
    }

    /// The deadline passed before there was a connection.
    fn no_connection(&self, late: &Late, connecting_since: Option<Instant>) -> Error {
        match connecting_since {
            Some(since) if since < late.0.instant() => Error::Connect {
                instance: self.origin,
                cause: ConnectError::TimedOut(late.0.instant() - since),
            },
            // In the queue, which tells nothing of the server.
            _ => {
                self.note("gave_up", || {
                    format!("the caller's deadline passed in the queue: {}", self.in_words())
                });
                self.origin.reject(Reason::DeadlineExceeded).into()
            }
        }
    }

    /// How busy the pool is, for a decision.
    #[cold]
    fn in_words(&self) -> String {
        let Status { max_size, size, available, waiting } = self.pool.status();
        let gate = &self.pool.manager().overflow.gate;
        let (max_size, waiting) = (gate.most().min(max_size), waiting + gate.waiting());
        let in_use = size.saturating_sub(available);
        format!("{in_use} of {max_size} connections in use, {waiting} waiting")
    }

    pub(crate) fn note(&self, what: &'static str, why: impl FnOnce() -> String) {
        Decision::note(self.origin, what, why);
    }

    /// Waits for a connection, or makes one.
    pub(crate) async fn lease(&self, deadline: Option<Deadline>) -> Result<Lease<'_>, Error> {
        let instance = self.origin;
        self.reaper.start(&self.pool);
        let mut hurried = Hurried { shared: self, left: true };
        let getting = pin!(async {
            let got = within(deadline, pin!(self.object())).await;
            got.map_err(|late| self.no_connection(&late, CONNECTING_SINCE.with(Cell::get)))
        });
        let got = CONNECTING_SINCE.scope(Cell::new(None), getting).await?;
        hurried.left = false;
        let error = match got {
            Ok(object) => return Ok(Lease::new(object, self)),
            Err(error) => error,
        };
        self.pool.manager().departures.tell();
        let cause = match error {
            PoolError::Timeout(TimeoutType::Wait) => {
                self.counters.wait_timeouts.fetch_add(1, Relaxed);
                self.note("refused", || self.in_words());
                return Err(instance.reject(Reason::Overloaded).into());
            }
            PoolError::Closed => return Err(instance.reject(Reason::Closed).into()),
            PoolError::Timeout(_) => ConnectError::TimedOut(self.connect_timeout),
            PoolError::Backend(cause) => ConnectError::Driver(cause.into()),
            PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
                unreachable!("the pool has a runtime and no hooks")
            }
        };
        Err(Error::Connect { instance, cause })
    }

    /// Takes a place at once where one is free, without a timer. Whoever has to wait for one is counted.
    async fn object(&self) -> Result<Borrowed, PoolError<tokio_postgres::Error>> {
        let gate = &self.pool.manager().overflow.gate;
        let configured = self.pool.timeouts();
        let mut waiting = None;
        let place = match gate.take_now() {
            Some(place) => place,
            None if self.pool.is_closed() => return Err(PoolError::Closed),
            None if configured.wait == Some(Duration::ZERO) => {
                return Err(PoolError::Timeout(TimeoutType::Wait));
            }
            None => {
                waiting = Some(Waiting::begin(&self.counters));
                self.note("queued", || self.in_words());
                let taken = gate.take(configured.wait.unwrap_or(Duration::MAX)).await;
                taken.map_err(|no| match no {
                    NoPlace::Late => PoolError::Timeout(TimeoutType::Wait),
                    NoPlace::Closed => PoolError::Closed,
                })?
            }
        };
        // One beneath is free, or is just about to be.
        let got = self.pool.timeout_get(&configured).await;
        drop(waiting);
        got.map(|object| Borrowed::new(object, place))
    }
}

/// A caller who wants a connection. One that leaves without has perhaps left a connect behind.
struct Hurried<'a> {
    shared: &'a Shared,
    left: bool,
}

impl Drop for Hurried<'_> {
    fn drop(&mut self) {
        if self.left {
            self.shared.pool.manager().departures.tell();
            self.shared.refill.start(&self.shared.pool);
        }
    }
}
