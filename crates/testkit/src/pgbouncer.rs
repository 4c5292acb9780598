//! A throw-away PgBouncer.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio_postgres::Config;

use crate::launch::{self, Account, Launch};
use crate::ports::Port;
use crate::postgres::answers;
use crate::{background, programs, workspace};

/// A PgBouncer of a test's own in transaction mode, on a TCP port of 127.0.0.1, before a Postgres: each transaction of a
/// client gets one of the server's connections, and the next one perhaps another.
///
/// It lets everybody in, and speaks to the server as `postgres`. Dropped, it is killed and its folder removed; it cannot
/// outlive the process.
#[derive(Debug)]
pub struct PgBouncer {
    child: Child,
    dir: PathBuf,
    port: Port,
}

impl PgBouncer {
    /// Starts one before a Postgres, to which it has at most so many connections for each database. Waits until it has
    /// brought a query to the database `postgres` and back.
    ///
    /// # Panics
    /// When it cannot be started: the message tells why, and names the command to run where `pgbouncer` is missing.
    pub async fn start(server: SocketAddr, pool_size: usize) -> Self {
        let started = background::run(Self::start_here(server, pool_size)).await;
        started.unwrap_or_else(|error| panic!("{error}"))
    }

    async fn start_here(server: SocketAddr, pool_size: usize) -> io::Result<Self> {
        // Not on everybody's `PATH`.
        let program = programs::find("pgbouncer", &[PathBuf::from("/usr/sbin")])?;
        let setpriv = programs::find("setpriv", &[])?;
        // It refuses to run as root, too.
        let account = Account::other_than_root()?;
        let port = Port::reserve()?;
        let dir = workspace::server_dir("pgbouncer-")?;
        let settings = dir.join("pgbouncer.ini");
        fs::write(&settings, configuration(server, port.addr(), pool_size))?;
        if let Some(account) = &account {
            chown(&dir, Some(account.uid), Some(account.gid))?;
        }
        let args = vec![settings.into()];
        // It has no children and keeps nothing.
        let launch = Launch { setpriv, program, args, dir, account, last_signal: Signal::SIGKILL };
        let mut config = Config::new();
        config.host("127.0.0.1").port(port.number()).user("postgres").dbname("postgres");
        config.connect_timeout(Duration::from_secs(1));
        let child = launch.start(|| async { answers(&config).await.is_ok() }).await?;
        Ok(Self { child, dir: launch.dir, port })
    }

    /// `postgres://postgres@127.0.0.1:PORT/DATABASE`.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.addr())
    }

    /// The TCP address.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        // A drop cannot report; the janitor of the process removes what is left here.
        let _ = launch::end(&mut self.child, Signal::SIGKILL);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn configuration(server: SocketAddr, listen: SocketAddr, pool_size: usize) -> String {
    format!(
        "[databases]
* = host={} port={} user=postgres
[pgbouncer]
listen_addr = {}
listen_port = {}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 500
",
        server.ip(),
        server.port(),
        listen.ip(),
        listen.port(),
    )
}
