//! Throw-away Postgres servers.

mod cluster;
mod database;
mod server;

pub(crate) use self::server::answers;

pub use self::database::TestDatabase;
pub use self::server::PostgresServer;
