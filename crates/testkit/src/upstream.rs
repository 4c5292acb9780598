//! A scripted HTTP/1.1 upstream.

mod reply;
mod script;
mod server;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method};

pub use self::reply::Reply;
pub use self::script::Script;
use self::server::State;
use crate::background::{self, Task};
use crate::ports::{self, Port};

/// An HTTP/1.1 server on a port of 127.0.0.1 that answers by script and records what it is asked.
///
/// A path without a script is answered with 404. The server runs on a thread of its own and in real time.
/// Dropped, it closes its port and every connection before the drop returns.
///
/// ```
/// # use buttress_testkit::{Reply, Upstream};
/// # async fn example() {
/// let upstream = Upstream::start().await;
/// upstream.on("/orders", [Reply::status(503).header("retry-after", "1"), Reply::ok("done")]);
/// // ... a client asks for upstream.url() + "/orders" ...
/// assert_eq!(upstream.requests().len(), 2);
/// # }
/// ```
#[derive(Debug)]
pub struct Upstream {
    port: Port,
    state: Arc<State>,
    _task: Task,
}

/// A request as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// Its method.
    pub method: Method,
    /// Its path with the query, as in `/orders?id=1`.
    pub path: String,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its whole body.
    pub body: Bytes,
}

impl Upstream {
    /// Starts the server.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start() -> Self {
        background::run(async {
            let (port, listener) = Port::reserve_for(ports::listen)?;
            let state = Arc::new(State::default());
            let task = Task::spawn(server::accept(listener, Arc::clone(&state)));
            Ok::<_, io::Error>(Self { port, state, _task: task })
        })
        .await
        .unwrap_or_else(|error| panic!("no port for an upstream: {error}"))
    }

    /// `http://127.0.0.1:PORT`, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.port.addr()
    }

    /// Sets what `path` (without a query) is answered with from now on: one [`Reply`] for ever, or several
    /// in turn, of which the last one repeats.
    pub fn on(&self, path: &str, script: impl Into<Script>) {
        self.state.set(path, script.into());
    }

    /// What was asked so far, in the order in which the requests had arrived in full.
    pub fn requests(&self) -> Vec<Recorded> {
        self.state.requests()
    }

    /// How many connections were accepted so far.
    pub fn connections(&self) -> usize {
        self.state.connections()
    }
}
