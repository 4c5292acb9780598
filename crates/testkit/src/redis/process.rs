//! One `redis-server` and its folder.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use nix::sys::signal::Signal;

use super::wire;
use crate::launch::{self, Launch};
use crate::ports::Port;
use crate::{programs, workspace};

/// After so much silence a node of a cluster takes another for dead. Less, and a busy machine would have failovers that
/// no test asked for.
const NODE_TIMEOUT_MS: u32 = 1000;

/// A server process on a unix socket and on a port of 127.0.0.1, which may be killed and started again. Dropped, it is
/// killed and its folder removed.
#[derive(Debug)]
pub(crate) struct Process {
    launch: Launch,
    port: Port,
    /// Where the nodes of a cluster talk to each other.
    bus: Option<Port>,
    socket: PathBuf,
    paused: AtomicBool,
    child: Mutex<Option<Child>>,
}

impl Process {
    /// A server by itself, not started yet.
    pub(crate) fn alone() -> io::Result<Self> {
        Self::new(None)
    }

    /// A node of a cluster, not started yet.
    pub(crate) fn clustered() -> io::Result<Self> {
        // By default it is 10,000 above the other, where anybody may sit.
        Self::new(Some(Port::reserve()?))
    }

    fn new(bus: Option<Port>) -> io::Result<Self> {
        let program = programs::find("redis-server", &[])?;
        let setpriv = programs::find("setpriv", &[])?;
        let dir = workspace::server_dir("redis-")?;
        let port = Port::reserve()?;
        let socket = dir.join("redis.sock");
        launch::check_socket(&socket)?;
        let mut args: Vec<OsString> = Vec::new();
        let mut set = |name: &str, value: OsString| args.extend([format!("--{name}").into(), value]);
        set("bind", "127.0.0.1".into());
        set("port", port.number().to_string().into());
        set("unixsocket", socket.clone().into());
        set("dir", dir.clone().into());
        set("save", "".into());
        set("appendonly", "no".into());
        if let Some(bus) = &bus {
            set("cluster-enabled", "yes".into());
            set("cluster-port", bus.number().to_string().into());
            set("cluster-node-timeout", NODE_TIMEOUT_MS.to_string().into());
            set("cluster-require-full-coverage", "no".into());
            // A replica of these few seconds is never too old to take over.
            set("cluster-replica-validity-factor", "0".into());
            set("repl-diskless-sync-delay", "0".into());
        }
        let launch = Launch { setpriv, program, args, dir, account: None, last_signal: Signal::SIGKILL };
        Ok(Self { launch, port, bus, socket, paused: AtomicBool::new(false), child: Mutex::new(None) })
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// That of the cluster's bus.
    ///
    /// # Panics
    /// When it is no node of a cluster.
    pub(crate) fn bus_port(&self) -> u16 {
        self.bus.as_ref().expect("a node of a cluster").number()
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        self.child().as_ref().map(Child::id)
    }

    /// Whether it runs and is not paused.
    pub(crate) fn answers(&self) -> bool {
        self.pid().is_some() && !self.paused.load(Ordering::Relaxed)
    }

    /// Starts it and waits until it answers. On the background thread alone, as everything that launches.
    pub(crate) async fn run(&self) -> io::Result<()> {
        let child = self.launch.start(|| async { wire::ping(&self.socket).await.is_ok() }).await?;
        *self.child() = Some(child);
        self.paused.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Stops it where it stands.
    pub(crate) fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        self.paused.store(true, Ordering::Relaxed);
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(Signal::SIGCONT);
        self.paused.store(false, Ordering::Relaxed);
    }

    /// Kills it and waits for its end.
    pub(crate) fn end(&self) -> io::Result<()> {
        match self.child().take() {
            Some(mut child) => launch::end(&mut child, Signal::SIGKILL).map(drop),
            None => Ok(()),
        }
    }

    fn signal(&self, signal: Signal) {
        let child = self.child();
        let child = child.as_ref().expect("the server runs");
        launch::send(child, signal).expect("a signal to one's own child");
    }

    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A drop cannot report; the janitor of the process removes what is left here.
        let _ = self.end();
        let _ = fs::remove_dir_all(&self.launch.dir);
    }
}
