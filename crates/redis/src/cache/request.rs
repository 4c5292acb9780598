//! How the script is asked.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Arg, Command, Error, Redis,
    cache::{StoreError, answer::Answer, keys::Keys, script},
};

/// Runs the script's operations. Clones are cheap.
#[derive(Clone)]
pub(super) struct Runner {
    pub(super) redis: Redis,
    pub(super) keys: Arc<Keys>,
}

impl Runner {
    pub(super) async fn run(
        &self,
        operation: &'static str,
        keys: &[&Bytes],
        args: Vec<Arg>,
    ) -> Result<Answer, StoreError> {
        let run = |verb, script| {
            let command = Command::new(verb).arg(script).arg(keys.len());
            let command = command.args(keys.iter().map(|key| Arg::from((*key).clone())));
            // Not sent again after a lost connection: Redis would tell the new one of nothing, and a lock taken by the first
            // would be another's to the second.
            self.redis.send(command.arg(operation).args(args.iter().cloned()).once())
        };
        let value = match run("EVALSHA", script::NAME).await {
            // A server that was restarted does not know it.
            Err(Error::Server(error)) if error.code() == "NOSCRIPT" => run("EVAL", script::TEXT).await?,
            value => value?,
        };
        Answer::read(value)
    }

    /// For how long a lock is taken, in milliseconds. Nothing, if it is not any more. Redis tells of its end.
    pub(super) async fn lock_ttl(&self, lock: &Bytes) -> Result<Option<u64>, StoreError> {
        let ttl: i64 =
            self.redis.send(Command::new("PTTL").arg(lock.clone())).await?.convert().map_err(Error::from)?;
        match ttl {
            -2 => Ok(None),
            // One without an end is not ours.
            ttl => u64::try_from(ttl).map(Some).map_err(|_odd| StoreError::Nonsense),
        }
    }
}
