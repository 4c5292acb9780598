use std::future::poll_fn;

use buttress_redis::{Command, Error, Value};
use tower_service::Service;

use super::{Kind, Probe};
use crate::Status;

impl Probe {
    /// Sends `PING`, by the connections of this client, or through the layers before one.
    #[must_use]
    pub fn redis<S>(redis: S) -> Self
    where
        S: Service<Command, Response = Value, Error = Error, Future: Send> + Clone + Send + 'static,
    {
        Self::of(Kind::Datastore, move || {
            let mut redis = redis.clone();
            async move {
                let answer = match poll_fn(|cx| redis.poll_ready(cx)).await {
                    Ok(()) => redis.call(Command::ping()).await,
                    Err(error) => Err(error),
                };
                Status::from(answer.map(drop))
            }
        })
    }
}
