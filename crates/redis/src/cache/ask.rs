//! How a key is looked up, or its lock taken.

use std::{fmt::Display, pin::pin, str::FromStr, time::Duration};

use buttress_cache::{Entry, Stored, Want};
use buttress_core::{Deadline, Reason, Rejectable};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::{sleep, sleep_until};

use crate::cache::{
    RedisStore, StoreError,
    answer::{Answer, Entered},
    body,
    keys::Named,
    lease::{Claim, LONGEST as LONGEST_LEASE, Lease, millis, token_text},
    request::LockTtl,
    stats::count,
};

/// How long it takes at most until Redis tells a new connection of what others write, or as long as a command may take.
pub(super) const ARRANGED: Duration = Duration::from_millis(250);

/// An answer that takes longer is Redis' fault. A caller with less time does not know.
const FAIR: Duration = Duration::from_millis(10);

/// Half of what the caller has left: he needs the other one to load by himself.
fn part() -> Option<Duration> {
    Deadline::current().map(|deadline| deadline.remaining() / 2)
}

/// Asks for so long at most. Nothing, if there was too little time for an answer.
async fn in_part<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<Option<T>, StoreError> {
    let Some(part) = part() else { return question.await.map(Some) };
    match Deadline::after(part).scope(question).await {
        Err(error) => match error.rejected() {
            Some(rejected)
                if rejected.reason() == Reason::DeadlineExceeded && !(rejected.sent() && part >= FAIR) =>
            {
                Ok(None)
            }
            _ => Err(error),
        },
        answer => answer.map(Some),
    }
}

/// How a wait for another's load has ended.
enum Waited {
    /// The lock is not taken any more, or may not be.
    Over,
    /// The caller's time is.
    Late,
    /// It has not begun: no lease lasts so long.
    Odd,
}

impl<K, V> RedisStore<K, V>
where
    K: Clone + Display + FromStr + Send + Sync + 'static,
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
        let mut breaks = false;
        loop {
            let arranged = part().map_or(self.arranged, |part| part.min(self.arranged));
            let connection = self.link.wait_until_telling(arranged).await?;
            let claim = Claim::new(&self.runner, &self.handle, &self.link.waiters, &named.lock);
            let Some(answer) = in_part(self.run_enter(&named, want, claim.token, breaks)).await? else {
                return Ok(Entry::Vacant(Lease::without_storing()));
            };
            if self.link.telling() != Some(connection) {
                return Err(StoreError::Untold);
            }
            self.link.note(answer.era);
            let since = answer.era.number;
            match answer.entered()? {
                Entered::Found(found) => {
                    claim.close();
                    if let (Some(value), Some(tags)) = (body::read(&found.body), found.tags) {
                        let (fresh_for, stale_for) = (found.fresh_for, found.stale_for);
                        return Ok(Entry::Found(Stored { value, fresh_for, stale_for, tags }));
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
                    match self.wait(&named.lock).await? {
                        Waited::Over => breaks = false,
                        Waited::Odd => breaks = true,
                        Waited::Late => return Ok(Entry::Vacant(Lease::without_storing())),
                    }
                    // What the other one has stored by now is to be read, whatever there was before.
                    want = if want == "none" { "fresh" } else { want };
                }
            }
        }
    }

    async fn run_enter(
        &self,
        named: &Named,
        want: &'static str,
        token: u64,
        breaks: bool,
    ) -> Result<Answer, StoreError> {
        let keys = &self.runner.keys;
        let args = vec![
            want.into(),
            u32::from(self.version).into(),
            self.limit.into(),
            keys.tag_prefix.clone().into(),
            named.lock.clone().into(),
            token_text(token).into(),
            millis(self.lease).into(),
            u32::from(breaks).into(),
        ];
        self.runner.run("enter", &[&keys.era, &named.entry], args).await
    }

    async fn wait(&self, lock: &Bytes) -> Result<Waited, StoreError> {
        let waiter = self.link.waiters.register(lock);
        let Some(ttl) = in_part(self.runner.lock_ttl(lock)).await? else { return Ok(Waited::Late) };
        let ttl = match ttl {
            LockTtl::Free => return Ok(Waited::Over),
            LockTtl::Until(ttl) if ttl <= LONGEST_LEASE => ttl,
            LockTtl::Until(_) | LockTtl::Endless => return Ok(Waited::Odd),
        };
        count(&self.link.counters.waits);
        let end = sleep(ttl + Duration::from_millis(1));
        let deadline = Deadline::current();
        let passed = pin!(async {
            match deadline {
                Some(deadline) => sleep_until(deadline.instant()).await,
                None => std::future::pending().await,
            }
        });
        tokio::select! {
            () = waiter.woken() => Ok(Waited::Over),
            () = end => Ok(Waited::Over),
            () = passed => Ok(Waited::Late),
        }
    }
}
