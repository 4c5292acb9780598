use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use deadpool::managed::{self, Metrics, Pool, RecycleError, RecycleResult};
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use tokio::time::Instant;

use crate::{
    PostgresConfig, StatementMode,
    age::Age,
    connection::Connection,
    departures::Departures,
    overflow::Overflow,
    unnamed::{Shapes, Unnamed},
};

tokio::task_local! {
    /// When the making of a connection began for whoever waits for one; nothing while he waits for a place. The pool
    /// makes a connection inside the future of the one who waits, and tells him in no other way.
    pub(crate) static CONNECTING_SINCE: Cell<Option<Instant>>;
}

/// Makes connections: deadpool-postgres' manager, with a bounded cache of statements beside each client.
#[derive(Debug)]
pub(crate) struct Connector {
    manager: Manager,
    statements: usize,
    max_lifetime: Option<Duration>,
    /// Where nothing is named on the server.
    shapes: Option<Arc<Shapes>>,
    pub(crate) overflow: Overflow,
    pub(crate) departures: Arc<Departures>,
    /// How many connections were made.
    pub(crate) created: AtomicU64,
    /// How many were closed because they had been idle too long, or had grown too old.
    pub(crate) expired: AtomicU64,
}

impl Connector {
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        // Fast, since a connection is only handed back when it is known to be idle and clean (see `lease.rs`).
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config.driver.clone(), config.tls.clone(), recycling);
        Self {
            manager,
            statements: config.statements,
            max_lifetime: config.knobs.max_lifetime,
            shapes: (config.statement_mode == StatementMode::Unnamed).then(Arc::default),
            overflow: Overflow::new(config),
            departures: Arc::default(),
            created: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }
}

impl Connector {
    /// Whether statements may be prepared on its connections under names.
    pub(crate) fn names_statements(&self) -> bool {
        self.shapes.is_none()
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Connection, tokio_postgres::Error> {
        // The background's refill has nobody who waits.
        let _nobody = CONNECTING_SINCE.try_with(|since| since.set(Some(Instant::now())));
        let client = self.manager.create().await?;
        self.created.fetch_add(1, Relaxed);
        let age = Age::new(Instant::now(), self.max_lifetime, fastrand::f64());
        let unnamed = self.shapes.as_ref().map(Unnamed::new);
        Ok(Connection::new(client, age, self.statements, unnamed))
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        metrics: &Metrics,
    ) -> RecycleResult<tokio_postgres::Error> {
        if connection.age.is_over(Instant::now) {
            self.expired.fetch_add(1, Relaxed);
            return Err(RecycleError::message("it has grown too old"));
        }
        self.manager.recycle(&mut connection.client, metrics).await
    }

    fn detach(&self, connection: &mut Connection) {
        self.manager.detach(&mut connection.client);
    }
}

/// For when a connection was given back.
pub(crate) fn given_back(pool: &Pool<Connector>) {
    pool.manager().overflow.trim(pool);
    if pool.is_closed() {
        pool.manager().departures.tell();
    }
}
