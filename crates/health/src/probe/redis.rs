use buttress_redis::{Command, Redis};

use super::{Kind, Probe};
use crate::Status;

impl Probe {
    /// Sends `PING`, by the connections of this client.
    #[must_use]
    pub fn redis(redis: Redis) -> Self {
        Self::of(Kind::Datastore, move || {
            let answer = redis.send(Command::ping());
            async move { Status::from(answer.await.map(drop)) }
        })
    }
}
