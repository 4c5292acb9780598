use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_health::Probe;
use buttress_redis::{Command, Error, KindClassifier, Value};
use buttress_telemetry::{RedisConvention, Registry};
use pin_project_lite::pin_project;
use tower::service_fn;
use tower_service::Service;

use super::{
    admission::Gate,
    error::StartError,
    layers::{Layers, Values},
    part::{Calling, Part},
};
use crate::{Config, config, explain};

/// Redis behind its layers: a [`Service`] of [`Command`]. Clones are the same.
///
/// It is always ready: what it waits for, it waits for in the call.
#[derive(Clone)]
pub struct Redis(Arc<Part<buttress_redis::Redis, RedisConvention, KindClassifier>>);

/// What its layers are called.
const NAME: &str = "redis";

impl Redis {
    pub(super) async fn connect(
        config: &Config,
        redis: &config::Redis,
        registry: &Registry,
        gate: &Gate,
    ) -> Result<Self, StartError> {
        let wrong = |wrong: config::Wrong| StartError::wrong(NAME, &wrong);
        let values = Values::of_redis(config, redis).map_err(wrong)?;
        let client = redis.client().map_err(wrong)?;
        let convention = RedisConvention::new(client.database());
        let client = buttress_redis::Redis::connect(client).await;
        let client = client.map_err(|error| StartError::part(NAME, error))?;
        let layers = Layers::new(NAME, registry, gate, convention, KindClassifier, values)?;
        let part = Part::new(NAME, client, KindClassifier, layers);
        part.register(registry, &part.adapter)?;
        Ok(Self(Arc::new(part)))
    }

    /// The client itself, past the layers.
    #[must_use]
    pub fn client(&self) -> &buttress_redis::Redis {
        &self.0.adapter
    }

    /// Sends one command.
    ///
    /// # Errors
    /// See [`Error`]; what a layer refuses is [`Error::Rejected`].
    ///
    /// # Cancellation
    /// Dropped unfinished, the command may have been carried out.
    pub async fn send(&self, command: Command) -> Result<Value, Error> {
        self.0.call(command).await
    }

    /// What asks after its health: see [`Part::probe`].
    pub(super) fn probe(&self) -> Probe {
        let redis = self.clone();
        Probe::redis(service_fn(move |command| {
            let redis = redis.clone();
            async move { redis.0.probe(command).await }
        }))
    }

    pub(super) fn explained(&self) -> explain::Stack {
        self.0.explained(self.client())
    }

    /// Works by other values from here on.
    pub(super) fn change(&self, values: Values, registry: &Registry) {
        self.0.change(values, registry, self.client());
    }
}

impl Service<Command> for Redis {
    type Response = Value;
    type Error = Error;
    type Future = CommandFuture;

    /// Always ready.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, command: Command) -> CommandFuture {
        CommandFuture { call: self.0.call(command) }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(self.client()).finish()
    }
}

pin_project! {
    /// A call of [`Redis`].
    #[must_use = "futures do nothing unless polled"]
    pub struct CommandFuture {
        #[pin]
        call: Calling<buttress_redis::Redis, RedisConvention, KindClassifier, Command>,
    }
}

impl Future for CommandFuture {
    type Output = Result<Value, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().call.poll(cx)
    }
}

impl fmt::Debug for CommandFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandFuture").finish_non_exhaustive()
    }
}
