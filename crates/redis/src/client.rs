use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use buttress_core::{Metric, Observe, Origin, Setting, Value as Figure, WeakObserve};
use fred::{
    clients::Pool,
    interfaces::{ClientLike, MetricsInterface},
    types::Value,
};
use tower_service::Service;

use crate::{
    command::Command, config::RedisConfig, connection::Connection, error::Error, future::ResponseFuture,
    shared::Shared,
};

/// A Redis client as a tower `Service`: fred, with limits by default.
///
/// Clones are cheap and share the connections. All callers' commands are pipelined on them. It is always ready; a full
/// queue refuses instead of waiting. When the last clone is dropped and no command is running, the connections end.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<Shared>,
}

impl Redis {
    /// Connects, and stays connected from then on: lost connections are made anew.
    ///
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// If the server is not there, does not accept the credentials, or does not answer within the connect timeout;
    /// never where the configuration is [lazy](RedisConfig::lazy).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(config: RedisConfig) -> Result<Self, Error> {
        Ok(Self { shared: Shared::connect(config).await? })
    }

    /// Sends a command. The same as [`Service::call`], for those who are no stack of layers.
    pub fn send(&self, command: Command) -> ResponseFuture {
        if let Err(rejected) = self.shared.check() {
            return ResponseFuture::refused(rejected.into());
        }
        if !command.has_valid_name() {
            return ResponseFuture::refused(Error::InvalidName);
        }
        if let Some(name) = command.unshareable() {
            return ResponseFuture::refused(Error::Unshareable(name));
        }
        ResponseFuture::fresh(Box::pin(Arc::clone(&self.shared).run(command)))
    }

    /// Says goodbye to the server: commands on their way are answered first, later ones are refused as closed. It takes
    /// twice the command timeout at most, for all clones: whoever calls it meanwhile waits for the same end. What is
    /// unanswered by then is cut off. Dropping the future that came first cuts it off at once.
    pub async fn close(&self) {
        self.shared.close().await;
    }

    /// Whether every connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.pool.clients().iter().all(ClientLike::is_connected)
    }

    /// The driver's clients, for what a shared connection cannot do: subscriptions, transactions, blocking commands
    /// (`clone_new` one for those). Commands sent by it know nothing of deadlines and of the queue's bound.
    #[must_use]
    pub fn driver(&self) -> &Pool {
        &self.shared.pool
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis")
            .field("origin", &self.shared.origin)
            .field("server", &self.shared.server)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

impl Service<Command> for Redis {
    type Response = Value;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, command: Command) -> ResponseFuture {
        self.send(command)
    }
}

impl Observe for Redis {
    fn origin(&self) -> Origin {
        self.shared.origin
    }

    fn downgrade(&self) -> WeakObserve {
        WeakObserve::of(&self.shared, |shared| Self { shared })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        let clients = self.shared.pool.clients();
        let connected = clients.iter().filter(|client| client.is_connected()).count();
        let queued: usize = clients.iter().map(MetricsInterface::command_queue_len).sum();
        visit(Metric::new("connections", Figure::Gauge(connected as f64)));
        visit(Metric::new("commands_queued", Figure::Gauge(queued as f64)));
        let in_flight: usize = self.shared.connections.iter().map(Connection::in_flight).sum();
        visit(Metric::new("commands_in_flight", Figure::Gauge(in_flight as f64)));
        visit(Metric::new("connections_given_up", Figure::Counter(self.shared.given_up.load(Relaxed))));
        self.shared.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        self.shared.settings.iter().copied().for_each(visit);
    }
}
