//! Throw-away Redis servers.

mod cluster;
mod formation;
mod process;
mod server;
mod topology;
mod wire;

pub use self::cluster::RedisCluster;
pub use self::server::RedisServer;
