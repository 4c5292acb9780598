use std::{net::SocketAddr, path::PathBuf, time::Duration};

use buttress::{Config, ConfigError, StartError, config};

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    /// A TOML file in place of this program's own configuration. What else is here goes before it.
    pub(crate) config: Option<PathBuf>,
    pub(crate) database_url: Option<String>,
    pub(crate) redis_url: Option<String>,
    pub(crate) upstream_url: Option<String>,
    /// Where the live page is; none where there is to be none.
    pub(crate) dashboard: Option<SocketAddr>,
    /// Whether throw-away servers may take the place of what is not configured.
    pub(crate) throw_away: bool,
}

impl Settings {
    /// The tables that are known, without those of what stands in.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        let mut config = self.config.as_ref().map_or_else(|| Ok(ours()), Config::load)?;
        if let Some(url) = self.database_url.as_deref() {
            config.database.get_or_insert_with(|| database(url)).url = url.into();
        }
        if let Some(url) = self.redis_url.as_deref() {
            config.redis.get_or_insert_with(|| redis(url)).url = url.into();
        }
        if let Some(url) = self.upstream_url.as_deref() {
            config.http.entry(PROFILES.into()).or_insert_with(|| profiles(url)).base_url = url.into();
        }
        config.telemetry.dashboard = self.dashboard.or(config.telemetry.dashboard);
        Ok(config)
    }

    /// One line, with the variable that is to blame.
    pub(super) fn told(&self, error: &StartError) -> String {
        let key = match error {
            // What a file says is the file's.
            StartError::Config(error) if error.file().is_some() => "",
            StartError::Config(error) => error.key().unwrap_or_default(),
            StartError::Part { table, .. } => table,
            _ => "",
        };
        let variable = match key {
            "database" | "database.url" => self.database_url.as_ref().map(|_| "DATABASE_URL"),
            "redis" | "redis.url" | "cache" => self.redis_url.as_ref().map(|_| "REDIS_URL"),
            "http.profiles.base_url" => self.upstream_url.as_ref().map(|_| "UPSTREAM_URL"),
            "telemetry.dashboard" => self.dashboard.map(|_| "GATEWAY_DASHBOARD"),
            _ => None,
        };
        match (variable, error) {
            (Some(variable), StartError::Part { cause, .. }) => format!("{variable}: {cause}"),
            (Some(variable), _) => format!("{variable}: {error}"),
            (None, _) => error.to_string(),
        }
    }
}

/// What the API of the profiles is called.
pub(super) const PROFILES: &str = "profiles";

/// Without a file.
fn ours() -> Config {
    let mut config = Config::default();
    "gateway".clone_into(&mut config.name);
    config.cache.get_or_insert_default().ttl = Duration::from_secs(30);
    config.telemetry.slow_call = Duration::from_millis(500);
    config
}

pub(super) fn database(url: &str) -> config::Database {
    let mut database = config::Database::new(url);
    (database.pool_size, database.max_overflow) = (8, 0);
    database.wait_timeout = Duration::from_millis(500);
    database.connect_timeout = Duration::from_secs(1);
    database.slow_query = Duration::from_millis(500);
    (database.timeout, database.attempt_timeout) = (TOTAL, Some(ATTEMPT));
    (database.retry, database.circuit_breaker) = (retry(), breaker());
    database
}

pub(super) fn redis(url: &str) -> config::Redis {
    let mut redis = config::Redis::new(url);
    // A cache that takes longer than the database is none.
    redis.command_timeout = Duration::from_millis(50);
    redis.connect_timeout = Duration::from_secs(2);
    redis.circuit_breaker = breaker();
    redis
}

pub(super) fn profiles(url: &str) -> config::Http {
    let mut profiles = config::Http::new(url);
    profiles.max_answer = 64 << 10;
    (profiles.timeout, profiles.attempt_timeout) = (TOTAL, Some(ATTEMPT));
    (profiles.retry, profiles.circuit_breaker) = (retry(), breaker());
    profiles
}

/// Somebody waits.
const TOTAL: Duration = Duration::from_secs(2);
/// Four of them and the waits between fit into the whole.
const ATTEMPT: Duration = Duration::from_millis(450);

/// Waits little, for the same reason: what a few milliseconds do not mend is the breaker's business.
fn retry() -> config::Retry {
    let mut retry = config::Retry::default();
    (retry.delay, retry.max_delay) = (Duration::from_millis(10), Duration::from_millis(100));
    retry
}

/// Comes back soon: a gateway would rather ask twice a second than stay away for long.
fn breaker() -> config::CircuitBreaker {
    let mut breaker = config::CircuitBreaker::default();
    (breaker.open_for, breaker.ramp) = (Duration::from_millis(500), Duration::from_millis(500));
    breaker
}
