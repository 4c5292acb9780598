use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{Deadline, Origin, Reason};
use deadpool::{
    Runtime,
    managed::{Pool, PoolError, QueueMode, TimeoutType, Timeouts},
};
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    ConnectError, Error, InvalidConfig, PostgresConfig, Query, Rows,
    connection::Call,
    connector::{CONNECTING_SINCE, Connector},
    lease::Lease,
    observe::Counters,
    recent::RecentTexts,
    refill::Refill,
    within::{Late, within},
};

/// A Postgres database: a [`Service`] of [`Query`], over a pool of connections. Clones share the pool.
///
/// See the [crate's documentation](crate) for what it guarantees.
#[derive(Clone)]
pub struct Postgres {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) origin: Origin,
    pub(crate) pool: Pool<Connector>,
    pub(crate) texts: RecentTexts,
    pub(crate) counters: Counters,
    /// How many connections are being ended in the background.
    pub(crate) endings: Arc<AtomicUsize>,
    pub(crate) refill: Refill,
    pub(crate) create_timeout: Duration,
    pub(crate) recycle_timeout: Duration,
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
            .max_size(config.pool_size)
            // The connection that was used last is the likeliest to be alive.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts {
                wait: Some(config.wait_timeout),
                create: Some(config.create_timeout),
                recycle: Some(config.recycle_timeout),
            })
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a pool with a runtime can have timeouts");
        Ok(Self {
            shared: Arc::new(Shared {
                origin: Origin::new("postgres", &config.name),
                pool,
                texts: RecentTexts::default(),
                counters: Counters::default(),
                endings: Arc::default(),
                refill: Refill::default(),
                create_timeout: config.create_timeout,
                recycle_timeout: config.recycle_timeout,
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

    pub(crate) fn shared(&self) -> &Shared {
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
    async fn query(&self, query: &Query) -> Result<Rows, Error> {
        let wrong = |cause| Error::Query { instance: self.origin, cause };
        let parsed = self.texts.parse(query.text()).map_err(wrong)?;
        let params = query.resolve(&parsed).map_err(wrong)?;
        let deadline = self.deadline()?;
        self.counters.queries.fetch_add(1, Relaxed);
        let mut repeated = false;
        loop {
            let mut lease = self.lease(deadline).await?;
            let sent = AtomicBool::new(false);
            let call = Call {
                origin: self.origin,
                parsed: &parsed,
                params: &params,
                sent: &sent,
                in_transaction: false,
                #[cfg(feature = "cache")]
                is_kept: query.uses.cached.is_some(),
            };
            lease.occupy();
            let Ok(result) = within(deadline, lease.connection().run(&call)).await else {
                // The lease goes here, and cancels the statement.
                return Err(self.no_answer(sent.load(Relaxed)));
            };
            lease.settle(result.as_ref().err().is_none_or(|error| !error.breaks_connection()));
            match result {
                Err(error) if !repeated && is_harmless_loss(&error) => repeated = true,
                result => return result,
            }
        }
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
            _ => self.origin.reject(Reason::DeadlineExceeded).into(),
        }
    }

    /// Waits for a connection, or makes one.
    pub(crate) async fn lease(&self, deadline: Option<Deadline>) -> Result<Lease<'_>, Error> {
        let instance = self.origin;
        let mut hurried = Hurried { shared: self, left: true };
        let got = CONNECTING_SINCE
            .scope(Cell::new(None), async {
                let got = within(deadline, self.pool.get()).await;
                got.map_err(|late| self.no_connection(&late, CONNECTING_SINCE.with(Cell::get)))
            })
            .await?;
        hurried.left = false;
        let cause = match got {
            Ok(object) => return Ok(Lease::new(object, self)),
            Err(PoolError::Timeout(TimeoutType::Wait)) => {
                return Err(instance.reject(Reason::Overloaded).into());
            }
            Err(PoolError::Closed) => return Err(instance.reject(Reason::Closed).into()),
            Err(PoolError::Timeout(_)) => ConnectError::TimedOut(self.create_timeout),
            Err(PoolError::Backend(cause)) => ConnectError::Driver(cause),
            Err(PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_)) => {
                unreachable!("the pool has a runtime and no hooks")
            }
        };
        Err(Error::Connect { instance, cause })
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
            self.shared.refill.start(&self.shared.pool);
        }
    }
}

/// Whether the connection turned out to be dead before the statement was sent: one of the pool's that broke since it
/// was last used. Worth one more connection, and harmless.
pub(crate) fn is_harmless_loss(error: &Error) -> bool {
    error.breaks_connection() && !error.sent()
}
