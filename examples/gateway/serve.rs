//! A server that ends without a request that fails.
//!
//! Once it is to stop it takes the connections that stand in line and no more. Every answer from there on says
//! `Connection: close`, so a client knows that it is the last one. Connections on which nothing happens are closed a moment
//! later, not at once: a request may be on its way that its client could not know to be too late.

use std::{collections::VecDeque, io, net::SocketAddr, time::Duration};

use axum::{Router, middleware::map_response, response::Response, serve::Listener};
use http::{HeaderValue, header::CONNECTION};
use tokio::{
    net::{TcpListener, TcpStream},
    pin, select,
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

/// For how long a connection on which nothing happens may still bring a request.
const LAST_REQUESTS: Duration = Duration::from_millis(500);

/// Serves until `stop`, and then until every request has its answer, or until `limit` is over. The instant at which it is.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    limit: Duration,
) -> io::Result<Instant> {
    let (stopping, stopped) = watch::channel(false);
    let door = Door { listener: Some(listener), in_line: VecDeque::new(), stopped: stopped.clone() };
    let is_last = stopped.clone();
    let router = router.layer(map_response(move |mut response: Response| {
        if *is_last.borrow() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        std::future::ready(response)
    }));
    let idle = async move {
        until(stopped).await;
        sleep(LAST_REQUESTS.min(limit / 2)).await;
    };
    let server = async { axum::serve(door, router).with_graceful_shutdown(idle).await };
    pin!(server, stop);
    select! {
        ended = &mut server => ended?,
        () = &mut stop => {}
    }
    let end = Instant::now() + limit;
    stopping.send_replace(true);
    match timeout_at(end, server).await {
        Ok(ended) => ended?,
        Err(_) => tracing::warn!(?limit, "requests are cut off"),
    }
    Ok(end)
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // Whoever could say so is gone: it has stopped.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

struct Door {
    /// None once it is shut.
    listener: Option<TcpListener>,
    /// Those that the kernel had accepted until then.
    in_line: VecDeque<(TcpStream, SocketAddr)>,
    stopped: watch::Receiver<bool>,
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            select! {
                next = Listener::accept(listener) => return next,
                () = until(self.stopped.clone()) => {}
            }
        }
        if let Some(listener) = self.listener.take() {
            // Where no more can be taken, those that were are served all the same.
            if let Err(error) = in_line(listener, &mut self.in_line) {
                tracing::warn!(%error, "connections that stood in line are refused");
            }
        }
        match self.in_line.pop_front() {
            Some(next) => next,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.as_ref().ok_or(io::ErrorKind::NotConnected)?.local_addr()
    }
}

/// Past the runtime, which may not have heard of all of them.
fn in_line(listener: TcpListener, all: &mut VecDeque<(TcpStream, SocketAddr)>) -> io::Result<()> {
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((stream, address)) => {
                stream.set_nonblocking(true)?;
                all.push_back((TcpStream::from_std(stream)?, address));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // That one is gone; there may be more.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => return Err(error),
        }
    }
}
