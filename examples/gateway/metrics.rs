//! The figures as a page for Prometheus, on an address of their own: they tell how the gateway is built, and how busy it is.

use std::{io, net::SocketAddr};

use axum::{Router, http::header::CONTENT_TYPE, routing::get};
use buttress::System;
use tokio::{net::TcpListener, runtime::Handle, task::JoinHandle};

/// Serves `/metrics` until it is dropped.
pub(super) struct Metrics {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Metrics {
    pub(super) async fn serve(address: SocketAddr, system: &System) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let system = system.clone();
        let page = move || async move {
            ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page(&system))
        };
        let routes = Router::new().route("/metrics", get(page));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the figures are not served any more");
            }
        });
        Ok(Self { address, server })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Metrics {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What the layers tell, and how many tasks there are: a task that is left behind by each request shows there first.
fn page(system: &System) -> String {
    let tasks = Handle::current().metrics().num_alive_tasks();
    let mut page = system.registry().prometheus();
    page.push_str(&format!(
        "# HELP tokio_alive_tasks Tasks that have not ended.\n# TYPE tokio_alive_tasks gauge\ntokio_alive_tasks {tasks}\n"
    ));
    page
}
