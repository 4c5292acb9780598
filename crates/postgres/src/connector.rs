use std::cell::Cell;

use deadpool::managed::{self, Metrics, RecycleResult};
use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
use tokio::time::Instant;
use tokio_postgres::NoTls;

use crate::{PostgresConfig, connection::Connection};

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
}

impl Connector {
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        // Fast, since a connection is only handed back when it is known to be idle and clean (see `lease.rs`).
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config.driver.clone(), NoTls, recycling);
        Self { manager, statements: config.statements }
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = tokio_postgres::Error;

    async fn create(&self) -> Result<Connection, tokio_postgres::Error> {
        // The background's refill has nobody who waits.
        let _nobody = CONNECTING_SINCE.try_with(|since| since.set(Some(Instant::now())));
        Ok(Connection::new(self.manager.create().await?, self.statements))
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        metrics: &Metrics,
    ) -> RecycleResult<tokio_postgres::Error> {
        self.manager.recycle(&mut connection.client, metrics).await
    }

    fn detach(&self, connection: &mut Connection) {
        self.manager.detach(&mut connection.client);
    }
}
