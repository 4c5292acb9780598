use std::{
    fmt,
    net::{SocketAddr, ToSocketAddrs},
    sync::Arc,
};

use tokio::{net::TcpStream, sync::Semaphore, task::spawn_blocking};

use super::{Kind, Probe, status};
use crate::Cause;

impl Probe {
    /// Opens a TCP connection to `host:port` and closes it. The name is looked up each time.
    ///
    /// It says that somebody accepts connections, which a wedged process does as well: give the part something
    /// [passive](crate::Part::passive) beside it.
    pub fn tcp(host_and_port: impl fmt::Display) -> Self {
        let host_and_port: Arc<str> = host_and_port.to_string().into();
        // A look-up cannot be cut off: it blocks a thread until the system gives up. One at a time, then.
        let looking = Arc::new(Semaphore::new(1));
        Self::of(Kind::Component, move || {
            let (host_and_port, looking) = (Arc::clone(&host_and_port), Arc::clone(&looking));
            async move { status(connect(host_and_port, looking).await) }
        })
    }
}

async fn connect(host_and_port: Arc<str>, looking: Arc<Semaphore>) -> Result<(), Cause> {
    let failed =
        |error: std::io::Error| Cause::new(format_args!("no connection to {host_and_port}: {error}"));
    let addrs: Vec<SocketAddr> = match host_and_port.parse() {
        Ok(addr) => vec![addr],
        Err(_) => {
            let Ok(turn) = looking.try_acquire_owned() else {
                return Err(Cause::new("the name is still being looked up for an earlier probe"));
            };
            let name = Arc::clone(&host_and_port);
            let looked_up = spawn_blocking(move || {
                let _turn = turn;
                name.to_socket_addrs().map(Iterator::collect)
            });
            looked_up.await.map_err(|_| Cause::new("the look-up of the name failed"))?.map_err(failed)?
        }
    };
    TcpStream::connect(&*addrs).await.map(drop).map_err(failed)
}
