//! Throw-away Redis servers.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::signal::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::launch::{self, Launch};
use crate::ports::Port;
use crate::{background, programs, workspace};

/// A Redis server of a test's own, on a unix socket and on a TCP port of 127.0.0.1.
///
/// It keeps everything in memory: a restart begins empty. Dropped, it is killed and its folder removed;
/// it cannot outlive the process. It starts in about 20 ms, so each test can have one.
#[derive(Debug)]
pub struct RedisServer {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    launch: Launch,
    port: Port,
    socket: PathBuf,
    child: Mutex<Option<Child>>,
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
            let program = programs::find("redis-server", &[])?;
            let setpriv = programs::find("setpriv", &[])?;
            let dir = workspace::server_dir("redis-")?;
            let port = Port::reserve()?;
            let socket = dir.join("redis.sock");
            launch::check_socket(&socket)?;
            let args = arguments(port.number(), &socket, &dir);
            let launch = Launch { setpriv, program, args, dir, account: None, last_signal: Signal::SIGKILL };
            let inner = Inner { launch, port, socket, child: Mutex::new(None) };
            let server = Self { inner: Arc::new(inner) };
            server.inner.run().await?;
            Ok(server)
        })
        .await
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// The TCP address.
    pub fn addr(&self) -> SocketAddr {
        self.inner.port.addr()
    }

    /// The TCP port; it stays the same over restarts.
    pub fn port(&self) -> u16 {
        self.inner.port.number()
    }

    /// The unix socket; it stays the same over restarts.
    pub fn unix_path(&self) -> &Path {
        &self.inner.socket
    }

    /// The process id, while the server runs.
    pub fn pid(&self) -> Option<u32> {
        self.inner.child().as_ref().map(Child::id)
    }

    /// Kills the server without a goodbye and waits for its end. Clients see their connections end, new
    /// ones are refused. Does nothing when it is dead already.
    ///
    /// # Panics
    /// When the kernel refuses the signal.
    pub async fn kill(&self) {
        let inner = Arc::clone(&self.inner);
        background::run(async move { inner.end() }).await.expect("a signal to one's own child");
    }

    /// Starts the server again, empty, on the same port and socket; kills it first when it still runs.
    ///
    /// # Panics
    /// When it does not come up again.
    pub async fn restart(&self) {
        let inner = Arc::clone(&self.inner);
        let restarted = background::run(async move {
            inner.end()?;
            inner.run().await
        });
        restarted.await.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Stops the process where it stands (SIGSTOP): connections stay open and new ones are accepted by the
    /// kernel, but nothing is answered. The hang that no error reports.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn pause(&self) {
        self.inner.signal(Signal::SIGSTOP);
    }

    /// Lets a [paused](Self::pause) server go on; it answers what has piled up.
    ///
    /// # Panics
    /// When the server does not run.
    pub fn resume(&self) {
        self.inner.signal(Signal::SIGCONT);
    }
}

impl Inner {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    async fn run(&self) -> io::Result<()> {
        let child = self.launch.start(|| async { ping(&self.socket).await.is_ok() }).await?;
        *self.child() = Some(child);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        let child = self.child();
        let child = child.as_ref().expect("the server runs");
        launch::send(child, signal).expect("a signal to one's own child");
    }

    fn end(&self) -> io::Result<()> {
        match self.child().take() {
            Some(mut child) => launch::end(&mut child, Signal::SIGKILL).map(drop),
            None => Ok(()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A drop cannot report; the janitor of the process removes what is left here.
        let _ = self.end();
        let _ = fs::remove_dir_all(&self.launch.dir);
    }
}

fn arguments(port: u16, socket: &Path, dir: &Path) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut set = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
    set("--bind", "127.0.0.1".into());
    set("--port", port.to_string().into());
    set("--unixsocket", socket.into());
    set("--dir", dir.into());
    set("--save", "".into());
    set("--appendonly", "no".into());
    args
}

async fn ping(socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    if &answer == b"+PONG\r\n" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
