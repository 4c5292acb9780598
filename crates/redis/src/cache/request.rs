//! How the script is asked.

use std::{sync::Arc, time::Duration};

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

    /// By what the server differs from what it was before it was restarted, and from its replicas. Empty, where it does not say.
    pub(super) async fn server_run(&self) -> Result<String, StoreError> {
        let info: String = match self.redis.send(Command::new("INFO").arg("server")).await {
            Ok(info) => info.convert().map_err(Error::from)?,
            // It may be forbidden.
            Err(Error::Server(_)) => return Ok(String::new()),
            Err(error) => return Err(error.into()),
        };
        let run = info.lines().find_map(|line| line.strip_prefix("run_id:")).unwrap_or_default().trim();
        let is_one = run.len() <= 64 && run.bytes().all(|byte| byte.is_ascii_alphanumeric());
        Ok(if is_one { run.to_owned() } else { String::new() })
    }

    /// For how long a lock is taken. Redis tells of its end.
    pub(super) async fn lock_ttl(&self, lock: &Bytes) -> Result<LockTtl, StoreError> {
        let ttl: i64 =
            self.redis.send(Command::new("PTTL").arg(lock.clone())).await?.convert().map_err(Error::from)?;
        match ttl {
            -2 => Ok(LockTtl::Free),
            -1 => Ok(LockTtl::Endless),
            ttl => {
                let ttl = u64::try_from(ttl).map_err(|_odd| StoreError::Nonsense)?;
                Ok(LockTtl::Until(Duration::from_millis(ttl)))
            }
        }
    }
}

/// For how long a lock is taken.
#[derive(Debug, Clone, Copy)]
pub(super) enum LockTtl {
    Free,
    Until(Duration),
    Endless,
}
