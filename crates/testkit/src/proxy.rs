//! A TCP proxy that misbehaves on demand.

mod control;
mod link;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::mpsc as orders;

use self::control::{Control, Order};
use crate::background::{self, Task};
use crate::ports::Port;

/// What a [`FaultProxy`] does to its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing: bytes go through as they come.
    #[default]
    Pass,
    /// What the target sends arrives so much later; a round trip takes that much longer, while throughput
    /// stays.
    Latency(Duration),
    /// So many bytes a second at most, in each direction.
    Bandwidth(u64),
    /// Connections are accepted, and whatever is sent, either way, is swallowed. A connection that has lost
    /// a byte stays dead for ever, as behind a firewall that forgot it; others recover with the next fault.
    BlackHole,
    /// Nobody listens: new connections are refused. Existing ones go on: [`FaultProxy::cut`] ends them.
    Refuse,
    /// Existing connections are reset, and new ones as soon as they are accepted.
    Reset,
    /// The client is told that nothing more will come (FIN), on existing connections and on new ones, yet
    /// what it sends still goes through. A connection does not recover from that.
    HalfClose,
}

/// Where a [`FaultProxy`] leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl From<SocketAddr> for Target {
    fn from(addr: SocketAddr) -> Self {
        Self::Tcp(addr)
    }
}

impl From<&Path> for Target {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl From<PathBuf> for Target {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

/// A TCP proxy in front of a real server, on a port of 127.0.0.1 that stays the same.
///
/// It starts with [`Fault::Pass`]. It runs on a thread of its own and in real time. An error of the target
/// reaches the client as a reset. Dropped, it closes its port and every connection before the drop returns.
#[derive(Debug)]
pub struct FaultProxy {
    port: Port,
    accepted: Arc<AtomicUsize>,
    orders: orders::UnboundedSender<(Order, mpsc::Sender<()>)>,
    _task: Task,
}

impl FaultProxy {
    /// Starts a proxy in front of `target`, which need not be up.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(target: impl Into<Target>) -> Self {
        let target = target.into();
        background::run(async move {
            let accepted = Arc::new(AtomicUsize::new(0));
            let (orders, inbox) = orders::unbounded_channel();
            let (port, control) =
                Port::reserve_for(|address| Control::new(address, target.clone(), Arc::clone(&accepted)))?;
            let task = Task::spawn(control.run(inbox));
            Ok::<_, io::Error>(Self { port, accepted, orders, _task: task })
        })
        .await
        .unwrap_or_else(|error| panic!("no port for a proxy: {error}"))
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Switches to `fault`; it holds when this returns.
    ///
    /// # Panics
    /// When the port cannot be listened on again after [`Fault::Refuse`].
    pub fn set(&self, fault: Fault) {
        self.order(Order::Set(fault));
    }

    /// Resets every existing connection and leaves the fault as it is. Every one that a client has seen
    /// established before is gone when this returns.
    ///
    /// # Panics
    /// When the proxy's task has failed.
    pub fn cut(&self) {
        self.order(Order::Cut);
    }

    /// How many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    fn order(&self, order: Order) {
        let (done, wait) = mpsc::channel();
        self.orders.send((order, done)).expect("the proxy runs");
        wait.recv().expect("the proxy obeys");
    }
}
