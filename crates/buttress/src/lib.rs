#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "system")]
pub mod config;
#[cfg(feature = "explain")]
pub mod explain;
// Their samples are of many features.
#[cfg(all(doc, feature = "dashboard", feature = "otlp", feature = "balance", feature = "hedge"))]
pub mod guides;
#[cfg(feature = "system")]
mod system;

#[cfg(feature = "system")]
pub use self::{
    config::{Config, ConfigError},
    system::{
        Cache, CommandFuture, Database, Error, HttpService, Inserter, NotConfigured, QueryFuture, Redis,
        ReloadError, RequestFuture, ShutdownReport, StartError, System,
    },
};

/// [`buttress_postgres`], with the derive macro of its `FromRow`.
#[cfg(feature = "postgres")]
pub mod postgres {
    pub use buttress_postgres::*;
    // In place of that of the same name: it finds the trait here.
    pub use buttress_postgres_derive::FromRowOfButtress as FromRow;
}

pub use buttress_core as core;

#[cfg(feature = "balance")]
pub use buttress_balance as balance;
#[cfg(feature = "batch")]
pub use buttress_batch as batch;
#[cfg(feature = "bulkhead")]
pub use buttress_bulkhead as bulkhead;
#[cfg(feature = "cache")]
pub use buttress_cache as cache;
#[cfg(feature = "circuit-breaker")]
pub use buttress_circuit_breaker as circuit_breaker;
#[cfg(feature = "health")]
pub use buttress_health as health;
#[cfg(feature = "hedge")]
pub use buttress_hedge as hedge;
#[cfg(feature = "http")]
pub use buttress_http as http;
#[cfg(feature = "http-cache")]
pub use buttress_http_cache as http_cache;
#[cfg(feature = "rate-limit")]
pub use buttress_rate_limit as rate_limit;
#[cfg(feature = "redis")]
pub use buttress_redis as redis;
#[cfg(feature = "retry")]
pub use buttress_retry as retry;
#[cfg(feature = "telemetry")]
pub use buttress_telemetry as telemetry;
#[cfg(feature = "timeout")]
pub use buttress_timeout as timeout;
