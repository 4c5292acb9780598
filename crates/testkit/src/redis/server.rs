use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::process::Process;
use crate::background;

/// A Redis server of a test's own, on a unix socket and on a TCP port of 127.0.0.1.
///
/// It keeps everything in memory: a restart begins empty. Dropped, it is killed and its folder removed;
/// it cannot outlive the process. It starts in about 20 ms, so each test can have one.
#[derive(Debug)]
pub struct RedisServer {
    process: Arc<Process>,
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    ///
    /// # Panics
    /// When it cannot be started; see [`try_start`](Self::try_start).
    pub async fn start() -> Self {
        Self::try_start().await.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts a server and waits until it answers.
    ///
    /// # Errors
    /// `NotFound` when `redis-server` or `setpriv` is missing: the message names the command to run.
    /// Otherwise the message ends with the server's log.
    pub async fn try_start() -> io::Result<Self> {
        background::run(async {
            let process = Process::alone()?;
            process.run().await?;
            Ok(Self { process: Arc::new(process) })
        })
        .await
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// The TCP address.
    pub fn addr(&self) -> SocketAddr {
        self.process.addr()
    }

    /// The TCP port; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.process.port()
    }

    /// The unix socket; it stays the same over restarts.
    pub fn unix_path(&self) -> &Path {
        self.process.socket()
    }

    /// The process id, while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.pid()
    }

    /// Kills the server without a goodbye and waits for its end. Clients see their connections end, new
    /// ones are refused. Does nothing when it is dead already.
    ///
    /// # Panics
    /// When the kernel refuses the signal.
    pub async fn kill(&self) {
        let process = Arc::clone(&self.process);
        background::run(async move { process.end() }).await.expect("a signal to one's own child");
    }

    /// Starts the server again, empty, on the same port and socket; kills it first when it still runs.
    ///
    /// # Panics
    /// When it does not come up again.
    pub async fn restart(&self) {
        let process = Arc::clone(&self.process);
        let restarted = background::run(async move {
            process.end()?;
            process.run().await
        });
        restarted.await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Stops the process where it stands (SIGSTOP): connections stay open and new ones are accepted by the
    /// kernel, but nothing is answered. The hang that no error reports.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn pause(&self) {
        self.process.pause();
    }

    /// Lets a [paused](Self::pause) server go on; it answers what has piled up.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn resume(&self) {
        self.process.resume();
    }
}
