#![doc = include_str!("../README.md")]

#[cfg(feature = "allocations")]
mod alloc;
mod background;
mod chromium;
#[cfg(feature = "otlp")]
mod collector;
mod dnsmasq;
mod example;
mod launch;
#[cfg(buttress_loom)]
pub mod models;
mod nginx;
pub mod observed;
mod pgbouncer;
mod ports;
mod postgres;
pub mod probe;
mod programs;
mod proxy;
mod redis;
mod upstream;
mod workspace;

#[cfg(feature = "allocations")]
pub use self::alloc::{Counted, allocations, kept_bytes};
pub use self::chromium::{Chromium, Screen};
#[cfg(feature = "otlp")]
pub use self::collector::{Answer, Collector, ReceivedMetric};
pub use self::dnsmasq::DnsServer;
pub use self::example::example;
pub use self::nginx::Nginx;
pub use self::pgbouncer::PgBouncer;
pub use self::postgres::{PostgresServer, TestDatabase};
pub use self::programs::version;
pub use self::proxy::{Fault, FaultProxy, Target};
pub use self::redis::{RedisCluster, RedisServer};
pub use self::upstream::{Recorded, Reply, Script, Upstream};
