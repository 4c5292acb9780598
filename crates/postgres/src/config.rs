use std::{fmt, time::Duration};

use buttress_core::{Setting, SettingValue};
use tokio_postgres::config::Host;

use crate::{
    InvalidConfig, StatementMode,
    pool_knobs::PoolKnobs,
    tls::{self, Tls},
    url,
};

/// Where the database is and how it is used. `Debug` never shows the password.
#[derive(Clone)]
pub struct PostgresConfig {
    pub(crate) driver: tokio_postgres::Config,
    pub(crate) tls: Tls,
    #[cfg_attr(not(any(feature = "tls-ring", feature = "tls-aws-lc-rs")), expect(dead_code))]
    pub(crate) is_silent_about_tls: bool,
    pub(crate) name: String,
    pub(crate) pool_size: usize,
    pub(crate) wait_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) recycle_timeout: Duration,
    pub(crate) statements: usize,
    pub(crate) knobs: PoolKnobs,
    pub(crate) slow_query: Duration,
    pub(crate) statement_mode: StatementMode,
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
    /// Without `sslmode` there is no TLS. With `require`, `verify-ca` or `verify-full`, which all mean the same here, there
    /// is, and the server's certificate and name are verified: against Mozilla's roots, or those of the PEM file
    /// `sslrootcert`, which is read at once. `prefer` takes a server without TLS as it is.
    ///
    /// # Errors
    /// If the URL is malformed, or asks for TLS without one of the features for it, or its `sslrootcert` cannot be used.
    pub fn from_url(url: &str) -> Result<Self, InvalidConfig> {
        let url::Read { mut driver, is_silent_about_tls, roots } = url::read(url)?;
        let tls = roots.map_or_else(|| Ok(tls::usual()), |path| tls::trusting(&path))?;
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
            tls,
            is_silent_about_tls,
            name: "postgres".to_owned(),
            pool_size: 20,
            wait_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            recycle_timeout: Duration::from_secs(2),
            statements: 256,
            knobs: PoolKnobs::default(),
            slow_query: Duration::from_secs(1),
            statement_mode: StatementMode::Named,
        })
    }

    /// The name of this instance in errors and metrics. Default: `postgres`.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The most connections at a time, but for those of [`with_max_overflow`](Self::with_max_overflow). Default: 20.
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

    /// The longest time for making a connection, with resolving and authentication. Default: 5 s. (`connect_timeout` in the
    /// URL is the driver's own: it bounds the TCP connect to each address.)
    #[must_use]
    pub fn with_connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
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

    /// A statement that takes so long, without the wait for a connection, is a slow one: see
    /// [`Postgres::slow_queries`](crate::Postgres::slow_queries). Zero: each is. `Duration::MAX`: none. Default: 1 s.
    #[must_use]
    pub fn with_slow_query(mut self, threshold: Duration) -> Self {
        self.slow_query = threshold;
        self
    }

    /// Whether statements stay prepared on the server. Default: [`StatementMode::Named`]. Behind a pooler that shares its
    /// connections between clients (PgBouncer in transaction mode) it must be [`StatementMode::Unnamed`].
    #[must_use]
    pub fn with_statement_mode(mut self, mode: StatementMode) -> Self {
        self.statement_mode = mode;
        self
    }

    /// The database's name: what the URL says, or else the user's name, as the server takes it.
    #[must_use]
    pub fn database(&self) -> Option<&str> {
        self.driver.get_dbname().or_else(|| self.driver.get_user())
    }

    /// The knobs by their names, as the client tells them too. Nothing of the URL, of which much is secret.
    #[must_use]
    pub fn settings(&self) -> Box<[Setting]> {
        let count = |count: usize| SettingValue::Count(count as u64);
        let limit = |limit: Option<Duration>| limit.map_or(SettingValue::Off, SettingValue::Duration);
        let slow = (self.slow_query != Duration::MAX).then_some(self.slow_query);
        let mode = match self.statement_mode {
            StatementMode::Named => "named",
            StatementMode::Unnamed => "unnamed",
        };
        Box::new([
            Setting::new("pool_size", count(self.pool_size)),
            Setting::new("max_overflow", count(self.knobs.max_overflow)),
            Setting::new("wait_timeout", SettingValue::Duration(self.wait_timeout)),
            Setting::new("connect_timeout", SettingValue::Duration(self.connect_timeout)),
            Setting::new("recycle_timeout", SettingValue::Duration(self.recycle_timeout)),
            Setting::new("idle_timeout", limit(self.knobs.idle_timeout)),
            Setting::new("max_lifetime", limit(self.knobs.max_lifetime)),
            Setting::new("statement_cache", count(self.statements)),
            Setting::new("statement_mode", SettingValue::Word(mode)),
            Setting::new("slow_query", limit(slow)),
        ])
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        if self.pool_size == 0 {
            return Err(InvalidConfig::EmptyPool);
        }
        for (which, limit) in [("connect", self.connect_timeout), ("recycle", self.recycle_timeout)] {
            if limit.is_zero() {
                return Err(InvalidConfig::ZeroTimeout(which));
            }
        }
        self.validate_knobs()
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
            .field("ssl_mode", &self.driver.get_ssl_mode())
            .field("pool_size", &self.pool_size)
            .field("max_overflow", &self.knobs.max_overflow)
            .field("idle_timeout", &self.knobs.idle_timeout)
            .field("max_lifetime", &self.knobs.max_lifetime)
            .field("wait_timeout", &self.wait_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("recycle_timeout", &self.recycle_timeout)
            .field("statement_cache", &self.statements)
            .field("slow_query", &self.slow_query)
            .field("statement_mode", &self.statement_mode)
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
    fn root_certificates_are_not_needed_without_tls() {
        let config = PostgresConfig::from_url("postgres://h?sslmode=disable&sslrootcert=/nowhere/ca.pem");
        assert!(config.is_ok(), "{config:?}");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let config = PostgresConfig::from_url("postgres://h").unwrap();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.clone().with_wait_timeout(Duration::ZERO).validate(), Ok(()));
        assert_eq!(config.clone().with_pool_size(0).validate(), Err(InvalidConfig::EmptyPool));
        let zero = config.clone().with_connect_timeout(Duration::ZERO).validate();
        assert_eq!(zero, Err(InvalidConfig::ZeroTimeout("connect")));
        let zero = config.with_recycle_timeout(Duration::ZERO).validate();
        assert_eq!(zero, Err(InvalidConfig::ZeroTimeout("recycle")));
    }
}
