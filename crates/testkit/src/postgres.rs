//! Throw-away Postgres servers.

mod cluster;
mod database;
mod server;

pub use self::database::TestDatabase;
pub use self::server::PostgresServer;
