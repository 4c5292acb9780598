//! A greeter that can be killed.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use buttress_telemetry::Registry;
use tokio::{net::TcpListener, runtime::Runtime};

use super::app::{Client, Hall, Limits, Patience, Running};

/// A server in a runtime of its own: dropped, all of its tasks and connections are gone at once, as those of a process that is
/// killed.
pub(crate) struct Killable {
    pub(crate) address: SocketAddr,
    /// Dropped, it would stop in peace.
    _running: Running,
    pub(crate) hall: Arc<Hall>,
    pub(crate) registry: Registry,
    runtime: Option<Runtime>,
}

impl Killable {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), limits).await
    }

    pub(crate) async fn start_at(address: SocketAddr, limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let (hall, registry) = (Arc::new(Hall::default()), Registry::new());
        let (inside, seen) = (Arc::clone(&hall), registry.clone());
        let start = async move {
            let listener = TcpListener::bind(address).await.unwrap();
            Running::start(listener, inside, limits, &seen).unwrap()
        };
        let running = runtime.spawn(start).await.unwrap();
        Self { address: running.address, _running: running, hall, registry, runtime: Some(runtime) }
    }

    pub(crate) fn client(&self, patience: Patience) -> Client {
        Client::new(self.address, patience, &self.registry).unwrap()
    }

    pub(crate) fn calls(&self) -> u32 {
        self.hall.calls.load(Relaxed)
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}
