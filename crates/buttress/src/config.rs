//! What a [`System`](crate::System) is made of: the types of `buttress.toml`.

mod check;
mod clients;
mod duration;
mod environment;
mod error;
mod load;
mod parts;
mod policies;
mod say;
#[cfg(feature = "schema")]
mod schema;
mod secret;
mod shape;
mod values;
mod wrong;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use figment;

pub use self::{
    error::ConfigError,
    parts::{Cache, Database, Health, Http, Redis, StatementMode, Telemetry},
    policies::{Bulkhead, CircuitBreaker, Jitter, RateLimit, Requests, Retry},
    secret::Secret,
};

pub(crate) use self::wrong::Wrong;

/// The whole of a configuration. Every part is optional.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(title = "buttress.toml"))]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// What the program is called: in the database's list of connections, and before the keys of the shared cache.
    pub name: String,
    /// The Postgres database.
    pub database: Option<Database>,
    /// The Redis server or cluster.
    pub redis: Option<Redis>,
    /// The cache, in this process's memory, and in Redis too where it is shared.
    pub cache: Option<Cache>,
    /// The HTTP APIs, each under a name of yours.
    #[cfg_attr(feature = "schema", schemars(extend("propertyNames" = { "pattern": "^[A-Za-z0-9_-]{1,64}$" })))]
    pub http: BTreeMap<String, Http>,
    /// What is kept, shown and sent of the calls.
    pub telemetry: Telemetry,
    /// How often the parts are asked whether they are well.
    pub health: Health,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "app".to_owned(),
            database: None,
            redis: None,
            cache: None,
            http: BTreeMap::new(),
            telemetry: Telemetry::default(),
            health: Health::default(),
        }
    }
}

#[cfg(test)]
mod tests;
