//! Users that were read lately: in Redis, or in memory without one.

use std::{sync::Arc, time::Duration};

use buttress_redis::Command;
use quick_cache::sync::Cache as Memory;
use tokio::time::Instant;
use tower::ServiceExt;

use super::{routes::User, stacks::Commands};

const TTL: Duration = Duration::from_secs(30);

/// A cache that never fails a request: whatever goes wrong with it is a miss.
#[derive(Clone)]
pub(super) enum Cache {
    Redis(Commands),
    Memory(Arc<Memory<i64, (Instant, User)>>),
}

impl Cache {
    pub(super) fn memory() -> Self {
        Self::Memory(Arc::new(Memory::new(10_000)))
    }

    pub(super) async fn get(&self, id: i64) -> Option<User> {
        match self {
            Self::Memory(users) => {
                let (until, user) = users.get(&id)?;
                (Instant::now() < until).then_some(user)
            }
            Self::Redis(redis) => {
                let value = redis.clone().oneshot(Command::get(key(id))).await;
                let json: Option<String> = told(value)?.convert().ok()?;
                serde_json::from_str(&json?).ok()
            }
        }
    }

    pub(super) async fn put(&self, user: &User) {
        match self {
            Self::Memory(users) => users.insert(user.id, (Instant::now() + TTL, user.clone())),
            Self::Redis(redis) => {
                let Ok(json) = serde_json::to_string(user) else { return };
                told(redis.clone().oneshot(Command::set_ex(key(user.id), json, TTL)).await);
            }
        }
    }
}

fn key(id: i64) -> String {
    format!("gateway:user:{id}")
}

fn told<T>(result: Result<T, buttress_redis::Error>) -> Option<T> {
    result.inspect_err(|error| tracing::debug!(%error, "the cache is no help")).ok()
}
