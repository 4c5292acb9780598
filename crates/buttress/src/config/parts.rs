//! What is called, and what is seen of it.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Bulkhead, CircuitBreaker, RateLimit, Retry, Secret, duration};

/// A Postgres database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Database {
    /// `postgres://user:password@host:port/database?sslmode=require`
    pub url: Secret,
    /// How many connections are kept at most.
    #[serde(default = "default::pool_size")]
    pub pool_size: usize,
    /// How many more there may be for a while, where all are in use.
    #[serde(default = "default::max_overflow")]
    pub max_overflow: usize,
    /// How long a call may wait for a connection.
    #[serde(default = "default::five_seconds", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub wait_timeout: Duration,
    /// How long connecting may take.
    #[serde(default = "default::five_seconds", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub connect_timeout: Duration,
    /// A statement that takes so long is kept with the slow ones.
    #[serde(default = "default::a_second", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub slow_query: Duration,
    /// Whether statements stay prepared.
    #[serde(default)]
    pub statement_mode: StatementMode,
    /// How long a call may take in all, waiting and repeating included.
    #[serde(default = "default::thirty_seconds", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub timeout: Duration,
    /// How long one attempt may take. Without it one that hangs takes the whole of `timeout`.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub attempt_timeout: Option<Duration>,
    /// Without it there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// What failed is repeated.
    #[serde(default)]
    pub retry: Retry,
    /// Calls are refused for a while where they fail.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// Without it only the connections limit how many calls are on their way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<Bulkhead>,
}

/// Whether statements stay prepared on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StatementMode {
    /// They do.
    #[default]
    Named,
    /// They do not: behind a pooler that shares its connections, such as PgBouncer in transaction mode.
    Unnamed,
}

/// A Redis server or cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Redis {
    /// `redis://user:password@host:port/database`
    pub url: Secret,
    /// How many connections. Without it one for each CPU, at most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool_size: Option<usize>,
    /// How long a command may take, reconnecting included.
    #[serde(default = "default::a_second", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub command_timeout: Duration,
    /// How long connecting may take.
    #[serde(default = "default::five_seconds", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub connect_timeout: Duration,
    /// How long a call may take in all, waiting and repeating included.
    #[serde(default = "default::five_seconds", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub timeout: Duration,
    /// Without it there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// Without it nothing is repeated but what the client sends again when a connection was lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Calls are refused for a while where they fail.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// Without it only the client's queue limits how many calls are on their way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<Bulkhead>,
}

/// A cache of values under names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Cache {
    /// For how long a value is fresh, where nothing else is said of it.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub ttl: Duration,
    /// How many bytes of memory its values may take.
    pub max_bytes: u64,
    /// Whether it is shared with other processes, through `redis`.
    pub shared: bool,
    /// For how long after its time an old value may be given while a new one is loaded.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub stale_while_revalidate: Duration,
    /// For how long after its time an old value may be given where loading fails.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub stale_if_error: Duration,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(300),
            max_bytes: 64 << 20,
            shared: false,
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
        }
    }
}

/// An HTTP API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Http {
    /// What all paths are below, such as `https://stock.example/v1`.
    pub base_url: String,
    /// A token that is sent with every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer: Option<Secret>,
    /// Headers that are sent with every request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How many connections there may be.
    #[serde(default = "default::max_connections")]
    pub max_connections: usize,
    /// How long connecting may take, and waiting for a connection.
    #[serde(default = "default::five_seconds", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub connect_timeout: Duration,
    /// How many redirects are followed.
    #[serde(default = "default::redirects")]
    pub redirects: usize,
    /// How many bytes of an answer are read at most.
    #[serde(default = "default::max_answer")]
    pub max_answer: usize,
    /// How long a call may take in all: waiting, repeating and reading the answer included.
    #[serde(default = "default::thirty_seconds", with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub timeout: Duration,
    /// How long one attempt may take until its answer begins. Without it one that hangs takes the whole of `timeout`.
    #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub attempt_timeout: Option<Duration>,
    /// Without it there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// What failed is repeated.
    #[serde(default)]
    pub retry: Retry,
    /// Calls are refused for a while where they fail.
    #[serde(default)]
    pub circuit_breaker: CircuitBreaker,
    /// Without it only the connections limit how many calls are on their way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<Bulkhead>,
}

/// What is kept, shown and sent of the calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Telemetry {
    /// A call that takes so long is kept with the slow ones.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub slow_call: Duration,
    /// Where the live page is, such as `127.0.0.1:9900`. Without it there is none. It needs the feature `dashboard`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dashboard: Option<SocketAddr>,
    /// Where traces and metrics are sent to, such as `http://localhost:4317`. It needs the feature `otlp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp: Option<String>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { slow_call: Duration::from_secs(1), dashboard: None, otlp: None }
    }
}

/// How often the parts are asked whether they are well.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Health {
    /// From one question to the next.
    #[serde(with = "duration")]
    #[cfg_attr(feature = "schema", schemars(with = "duration::Written"))]
    pub interval: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { interval: Duration::from_secs(10) }
    }
}

pub(super) mod default {
    use std::time::Duration;

    pub(in crate::config) const fn pool_size() -> usize {
        20
    }

    pub(in crate::config) const fn max_overflow() -> usize {
        30
    }

    pub(in crate::config) const fn max_connections() -> usize {
        100
    }

    pub(in crate::config) const fn redirects() -> usize {
        10
    }

    pub(in crate::config) const fn max_answer() -> usize {
        10 << 20
    }

    pub(in crate::config) const fn a_second() -> Duration {
        Duration::from_secs(1)
    }

    pub(in crate::config) const fn five_seconds() -> Duration {
        Duration::from_secs(5)
    }

    pub(in crate::config) const fn thirty_seconds() -> Duration {
        Duration::from_secs(30)
    }
}
