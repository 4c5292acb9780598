//! The upstream that the gateway brings along: profiles over real HTTP, from a port of its own.

use std::{io, net::SocketAddr};

use axum::{Json, Router, extract::Path, routing::get};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

pub(super) struct StandIn {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl StandIn {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let routes = Router::new().route("/profiles/{id}", get(profile));
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, routes).await {
                tracing::error!(%error, "the built-in upstream ended");
            }
        });
        Ok(Self { address, server })
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn profile(Path(id): Path<i64>) -> Json<serde_json::Value> {
    Json(
        json!({ "id": id, "bio": format!("User number {id} has not told anything yet."), "followers": id % 100 }),
    )
}
