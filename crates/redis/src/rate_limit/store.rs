use std::{fmt, time::Duration};

use buttress_rate_limit::cluster::{Ask, Grant, Store};
use futures_util::future::join_all;

use crate::{
    Command, Error, Redis, RedisConfig,
    rate_limit::{
        answer::{fail, read},
        error::StoreError,
        keys, request, script,
    },
};

/// Keeps the limits of several processes in Redis, or in a Redis cluster: see the crate's documentation.
#[derive(Clone)]
pub struct RedisStore {
    redis: Redis,
    prefix: Box<str>,
}

impl RedisStore {
    /// A store by this client, whose time limits and bounds hold here too, and whose delays of reconnecting decide how soon
    /// it is back: see [`connect`](Self::connect). Its keys begin with `rate-limit:`.
    #[must_use]
    pub fn new(redis: Redis) -> Self {
        Self { redis, prefix: "rate-limit".into() }
    }

    /// A store by a client of its own, which waits for no server at the start and reconnects within half a second, whatever
    /// the configuration says of both: a limiter has a policy for the time without its store, and should notice the end of
    /// that time soon.
    ///
    /// # Errors
    /// As [`Redis::connect`] of a [lazy](RedisConfig::lazy) configuration.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub async fn connect(config: RedisConfig) -> Result<Self, Error> {
        let (first, cap) = (Duration::from_millis(50), Duration::from_millis(500));
        Ok(Self::new(Redis::connect(config.with_reconnect(first, cap).lazy()).await?))
    }

    /// The same, whose keys begin with that and a colon: for two systems that share a server. What is neither a letter nor
    /// a digit nor one of `-._` is written as `%XX`.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Self {
        self.prefix = keys::part(prefix.as_ref().as_bytes()).into();
        self
    }

    /// Those asks are of one group.
    async fn decide(&self, asks: &[&Ask]) -> Vec<Result<Grant, StoreError>> {
        if asks[0].limits.is_empty() {
            return fail(&StoreError::NoLimits, asks);
        }
        let run = |verb, script| self.redis.send(self.command(verb, script, asks));
        let answer = match run("EVALSHA", script::NAME).await {
            // A server that was restarted, or a node of the cluster that was not asked before, does not know it.
            Err(Error::Server(error)) if error.code() == "NOSCRIPT" => run("EVAL", script::TEXT).await,
            answer => answer,
        };
        match answer {
            Ok(answer) => read(&answer, asks),
            Err(error) => fail(&error.into(), asks),
        }
    }

    fn command(&self, verb: &'static str, script: &'static str, asks: &[&Ask]) -> Command {
        // Not sent again after a lost connection: units may have been taken.
        request::command(verb, script, &self.prefix, asks).once()
    }
}

impl Store for RedisStore {
    type Error = StoreError;

    async fn take(&self, asks: Vec<Ask>) -> Vec<Result<Grant, StoreError>> {
        let groups = request::groups(&asks);
        let decided = join_all(groups.iter().map(|group| async {
            let asks: Vec<&Ask> = group.iter().map(|index| &asks[*index]).collect();
            self.decide(&asks).await
        }));
        let mut answers: Vec<_> = groups.iter().flatten().zip(decided.await.into_iter().flatten()).collect();
        answers.sort_unstable_by_key(|(index, _)| **index);
        answers.into_iter().map(|(_, answer)| answer).collect()
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("redis", &self.redis).field("prefix", &self.prefix).finish()
    }
}
