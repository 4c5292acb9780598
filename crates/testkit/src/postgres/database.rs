//! One database for each test, on a server that all tests of a process share.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;
use tokio_postgres::{Client, Config, NoTls};

use super::server::{Extras, PostgresServer};
use crate::background;

/// The shared server. It stands in a static, which nobody drops: it ends with the process.
static SHARED: OnceCell<Shared> = OnceCell::const_new();

#[derive(Debug)]
struct Shared {
    server: PostgresServer,
    creator: Client,
    /// Apart, because a new database should not wait for an old one to go.
    remover: Client,
}

/// An empty database of a test's own, on a Postgres server that all tests of the process share.
///
/// The first one starts the server; each takes about 30 ms. Dropped, the database is removed in the
/// background, together with connections that are still open.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    shared: &'static Shared,
}

impl TestDatabase {
    /// Makes a database.
    ///
    /// # Panics
    /// When it cannot be made; see [`try_new`](Self::try_new).
    pub async fn new() -> Self {
        Self::try_new().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a database.
    ///
    /// # Errors
    /// Those of [`PostgresServer::try_start`], and what the server says to `CREATE DATABASE`.
    pub async fn try_new() -> io::Result<Self> {
        background::run(async {
            static COUNT: AtomicU32 = AtomicU32::new(1);
            let shared = SHARED.get_or_try_init(Shared::start).await?;
            let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
            let create = format!("CREATE DATABASE {name}");
            shared.creator.batch_execute(&create).await.map_err(io::Error::other)?;
            Ok(Self { name, shared })
        })
        .await
    }

    /// `postgres://postgres@127.0.0.1:PORT/NAME`.
    pub fn url(&self) -> String {
        self.shared.server.url_of(&self.name)
    }

    /// How to reach it over the unix socket, which is faster than TCP.
    pub fn config(&self) -> Config {
        self.shared.server.config_of(&self.name)
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The TCP address of the shared server.
    pub fn addr(&self) -> SocketAddr {
        self.shared.server.addr()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let remove = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        let shared = self.shared;
        // Should it fail, it goes with the server at the end of the process.
        background::handle().spawn(async move { shared.remover.batch_execute(&remove).await });
    }
}

impl Shared {
    async fn start() -> io::Result<Self> {
        let server = PostgresServer::start_here(Extras::default()).await?;
        let creator = connect(&server.config()).await?;
        let remover = connect(&server.config()).await?;
        Ok(Self { server, creator, remover })
    }
}

async fn connect(config: &Config) -> io::Result<Client> {
    let (client, connection) = config.connect(NoTls).await.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(client)
}
