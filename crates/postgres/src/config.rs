use std::{fmt, time::Duration};

use tokio_postgres::config::Host;

use crate::{InvalidConfig, url};

/// Where the database is and how it is used. `Debug` never shows the password.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(crate) driver: tokio_postgres::Config,
    pub(crate) name: String,
    pub(crate) pool_size: usize,
    pub(crate) wait_timeout: Duration,
    pub(crate) create_timeout: Duration,
    pub(crate) recycle_timeout: Duration,
    pub(crate) statements: usize,
}

/// What the driver has where the URL says nothing: its connections notice after two hours that the other side is gone.
const DRIVERS_KEEPALIVE: Duration = Duration::from_secs(2 * 60 * 60);

impl PostgresConfig {
    /// `postgres://user:password@host:port/database?option=value`, as libpq has it; several hosts are separated by
    /// commas, and a Unix socket's folder is written `%2Fvar%2Frun%2Fpostgresql`. Characters with a meaning of their
    /// own (`@`, `/`, `?`, `%`) are percent-encoded.
    ///
    /// Where the URL says nothing about it, TCP connections notice within 90 s that the other side is gone
    /// (`keepalives_idle=60`, `keepalives_interval=10`, `keepalives_retries=3`, `tcp_user_timeout=30`).
    ///
    /// # Errors
    /// If the URL is malformed, or asks for TLS.
    pub fn from_url(url: &str) -> Result<Self, InvalidConfig> {
        let mut driver = url::read(url)?;
        if driver.get_keepalives_idle() == DRIVERS_KEEPALIVE {
            driver.keepalives_idle(Duration::from_secs(60));
        }
        if driver.get_keepalives_interval().is_none() {
            driver.keepalives_interval(Duration::from_secs(10));
        }
        if driver.get_keepalives_retries().is_none() {
            driver.keepalives_retries(3);
        }
        if driver.get_tcp_user_timeout().is_none() {
            driver.tcp_user_timeout(Duration::from_secs(30));
        }
        Ok(Self {
            driver,
            name: "postgres".to_owned(),
            pool_size: 20,
            wait_timeout: Duration::from_secs(5),
            create_timeout: Duration::from_secs(5),
            recycle_timeout: Duration::from_secs(2),
            statements: 256,
        })
    }

    /// The name of this instance in errors and metrics. Default: `postgres`.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The most connections at a time. Default: 20.
    #[must_use]
    pub fn with_pool_size(mut self, connections: usize) -> Self {
        self.pool_size = connections;
        self
    }

    /// The longest wait for a connection while all are in use. Zero: none waits. Default: 5 s.
    #[must_use]
    pub fn with_wait_timeout(mut self, limit: Duration) -> Self {
        self.wait_timeout = limit;
        self
    }

    /// The longest time for making a connection, with resolving and authentication. Default: 5 s.
    #[must_use]
    pub fn with_create_timeout(mut self, limit: Duration) -> Self {
        self.create_timeout = limit;
        self
    }

    /// The longest time for making a used connection fit for the next borrower, and for a `ROLLBACK`. Default: 2 s.
    #[must_use]
    pub fn with_recycle_timeout(mut self, limit: Duration) -> Self {
        self.recycle_timeout = limit;
        self
    }

    /// The name that the server shows in `pg_stat_activity`. Default: the URL's.
    #[must_use]
    pub fn with_application_name(mut self, name: impl Into<String>) -> Self {
        self.driver.application_name(name);
        self
    }

    /// The most prepared statements that a connection keeps. Default: 256.
    #[must_use]
    pub fn with_statement_cache(mut self, statements: usize) -> Self {
        self.statements = statements;
        self
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        if self.pool_size == 0 {
            return Err(InvalidConfig::EmptyPool);
        }
        for (which, limit) in [("create", self.create_timeout), ("recycle", self.recycle_timeout)] {
            if limit.is_zero() {
                return Err(InvalidConfig::ZeroTimeout(which));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts: Vec<String> = self
            .driver
            .get_hosts()
            .iter()
            .map(|host| match host {
                Host::Tcp(host) => host.clone(),
                #[cfg(unix)]
                Host::Unix(path) => path.display().to_string(),
            })
            .collect();
        f.debug_struct("PostgresConfig")
            .field("name", &self.name)
            .field("hosts", &hosts)
            .field("ports", &self.driver.get_ports())
            .field("user", &self.driver.get_user())
            .field("database", &self.driver.get_dbname())
            .field("application_name", &self.driver.get_application_name())
            .field("pool_size", &self.pool_size)
            .field("wait_timeout", &self.wait_timeout)
            .field("create_timeout", &self.create_timeout)
            .field("recycle_timeout", &self.recycle_timeout)
            .field("statement_cache", &self.statements)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_everything_but_the_password() {
        let config =
            PostgresConfig::from_url("postgres://bob:hunter2@db:5433/orders?options=-c%20geqo%3Doff")
                .unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        for part in ["bob", "db", "5433", "orders", "pool_size: 20", "wait_timeout: 5s"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }

    #[test]
    fn a_dead_peer_is_noticed_unless_the_url_says_otherwise() {
        let driver = PostgresConfig::from_url("postgres://h").unwrap().driver;
        assert_eq!(driver.get_keepalives_idle(), Duration::from_secs(60));
        assert_eq!(driver.get_tcp_user_timeout(), Some(&Duration::from_secs(30)));
        let driver =
            PostgresConfig::from_url("postgres://h?keepalives_idle=5&tcp_user_timeout=7").unwrap().driver;
        assert_eq!(driver.get_keepalives_idle(), Duration::from_secs(5));
        assert_eq!(driver.get_tcp_user_timeout(), Some(&Duration::from_secs(7)));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let config = PostgresConfig::from_url("postgres://h").unwrap();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.clone().with_wait_timeout(Duration::ZERO).validate(), Ok(()));
        assert_eq!(config.clone().with_pool_size(0).validate(), Err(InvalidConfig::EmptyPool));
        let zero = config.clone().with_create_timeout(Duration::ZERO).validate();
        assert_eq!(zero, Err(InvalidConfig::ZeroTimeout("create")));
        let zero = config.with_recycle_timeout(Duration::ZERO).validate();
        assert_eq!(zero, Err(InvalidConfig::ZeroTimeout("recycle")));
    }
}
