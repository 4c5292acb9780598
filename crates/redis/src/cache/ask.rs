//! How a key is looked up, or its lock taken.

use std::{fmt::Display, pin::pin, str::FromStr, time::Duration};

use buttress_cache::{Entry, Stored, Want};
use buttress_core::Deadline;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{sleep, sleep_until};

use crate::cache::{
    RedisStore, StoreError,
    answer::{Answer, Entered},
    body,
    keys::Named,
    lease::{Claim, LONGEST as LONGEST_LEASE, Lease, millis, token_text},
    stats::count,
};

/// How long it takes at most until Redis tells a new connection of what others write, or as long as a command may take.
pub(super) const ARRANGED: Duration = Duration::from_millis(250);

impl<K, V> RedisStore<K, V>
where
    K: Display + FromStr + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    pub(super) async fn ask(&self, key: &K, want: Want) -> Result<Entry<V, Lease>, StoreError> {
        let Some(named) = self.runner.keys.of(key) else {
            count(&self.link.counters.unstorable);
            return Ok(Entry::Vacant(Lease::without_storing()));
        };
        let mut want = match want {
            Want::Any => "any",
            Want::Fresh => "fresh",
        };
        loop {
            let connection = self.link.wait_until_telling(self.arranged).await?;
            let claim = Claim::new(&self.runner, &self.handle, &self.link.waiters, &named.lock);
            let answer = self.run_enter(&named, want, claim.token).await?;
            if self.link.telling() != Some(connection) {
                return Err(StoreError::Untold);
            }
            self.link.note(answer.era);
            let since = answer.era.number;
            match answer.entered()? {
                Entered::Found(found) => {
                    claim.close();
                    if let Some(value) = body::read(&found.body) {
                        let (fresh_for, stale_for) = (found.fresh_for, found.stale_for);
                        return Ok(Entry::Found(Stored { value, fresh_for, stale_for, tags: found.tags }));
                    }
                    count(&self.link.counters.unreadable);
                    want = "none";
                }
                Entered::Vacant { odd } => {
                    if odd {
                        count(&self.link.counters.unreadable);
                    }
                    return Ok(Entry::Vacant(Lease::new(claim, since, self.lease)));
                }
                Entered::Busy => {
                    claim.close();
                    if !self.wait(&named.lock).await? {
                        return Ok(Entry::Vacant(Lease::without_storing()));
                    }
                    // What the other one has stored by now is to be read, whatever there was before.
                    want = if want == "none" { "fresh" } else { want };
                }
            }
        }
    }

    async fn run_enter(&self, named: &Named, want: &'static str, token: u64) -> Result<Answer, StoreError> {
        let keys = &self.runner.keys;
        let args = vec![
            want.into(),
            u32::from(self.version).into(),
            self.limit.into(),
            keys.tag_prefix.clone().into(),
            named.lock.clone().into(),
            token_text(token).into(),
            millis(self.lease).into(),
        ];
        self.runner.run("enter", &[&keys.era, &named.entry], args).await
    }

    /// Until a lock is not taken any more, or may not be. `false`: the caller's deadline has passed.
    async fn wait(&self, lock: &Bytes) -> Result<bool, StoreError> {
        let waiter = self.link.waiters.register(lock);
        let Some(ttl) = self.runner.lock_ttl(lock).await? else { return Ok(true) };
        count(&self.link.counters.waits);
        let end = sleep(Duration::from_millis(ttl.min(millis(LONGEST_LEASE)) + 1));
        let deadline = Deadline::current();
        let passed = pin!(async {
            match deadline {
                Some(deadline) => sleep_until(deadline.instant()).await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            () = waiter.woken() => Ok(true),
            () = end => Ok(true),
            () = passed => Ok(false),
        }
    }
}
