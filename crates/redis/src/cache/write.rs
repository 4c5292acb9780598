//! How values are stored, and what else is written.

use std::{fmt::Display, str::FromStr, sync::Arc};

use buttress_cache::Stored;
use buttress_core::Deadline;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::sync::oneshot;

use crate::{
    Arg,
    cache::{
        RedisStore, StoreError,
        answer::Answer,
        body, keeper,
        keys::{LONGEST, Named},
        lease::{Held, millis, token_text},
        link::Link,
        stats::count,
    },
};

/// No entry lives longer, in milliseconds: ten years.
const LONGEST_LIFE: u64 = 315_360_000_000;

/// The script's bound.
const MOST_TAGS: usize = 64;

/// What a value becomes in Redis.
struct Written {
    fresh: u64,
    stale: u64,
    /// Nothing where it is not stored.
    body: Option<Bytes>,
}

impl<K, V> RedisStore<K, V>
where
    K: Display + FromStr + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// What stands first in the arguments of `fill` and `put`, up to their own, and the value.
    fn written(&self, stored: &Stored<V>) -> Written {
        let fresh = millis(stored.fresh_for).min(LONGEST_LIFE);
        let stale = millis(stored.stale_for).min(LONGEST_LIFE - fresh);
        let tags = stored.tags.len() <= MOST_TAGS && stored.tags.iter().all(|tag| tag.len() <= LONGEST);
        let body = (tags && fresh > 0).then(|| body::write(&stored.value, self.limit)).flatten();
        if body.is_none() {
            count(&self.link.counters.unstorable);
        }
        Written { fresh, stale, body }
    }

    fn head(&self, named: &Named) -> Vec<Arg> {
        let version = u32::from(self.version).into();
        vec![version, self.runner.keys.tag_prefix.clone().into(), named.lock.clone().into()]
    }

    /// Carried out to its end, also where the caller goes away or his deadline passes: the value is there, and others wait.
    pub(super) async fn run_fill(&self, held: Held, key: &K, stored: &Stored<V>) -> Result<bool, StoreError> {
        let named = self.runner.keys.of(key).ok_or(StoreError::TooLong)?;
        let mut args = self.head(&named);
        let list = self.runner.keys.list.clone();
        args.extend([token_text(held.claim.token).into(), held.since.into(), list.into()]);
        self.written(stored).add_to(&mut args, &stored.tags);
        self.link.telling().ok_or(StoreError::Untold)?;
        let runner = self.runner.clone();
        let filling = self.handle.spawn(async move {
            let answer = runner.run("fill", &[&runner.keys.era, &named.entry], args).await?;
            held.claim.given_back();
            Ok(answer)
        });
        let answer: Answer = filling.await.unwrap_or(Err(StoreError::Untold))?;
        self.link.note(answer.era);
        let is_stored = answer.code == 1;
        if !is_stored {
            count(&self.link.counters.refused);
        }
        Ok(is_stored)
    }

    pub(super) async fn run_put(&self, key: &K, stored: &Stored<V>) -> Result<(), StoreError> {
        let named = self.runner.keys.of(key).ok_or(StoreError::TooLong)?;
        let mut args = self.head(&named);
        self.written(stored).add_to(&mut args, &stored.tags);
        let answer = self.write_entry("put", named, args).await?;
        self.link.note(answer.era);
        Ok(())
    }

    /// The lock is gone after that, too.
    pub(super) async fn write_entry(
        &self,
        operation: &'static str,
        named: Named,
        args: Vec<Arg>,
    ) -> Result<Answer, StoreError> {
        let (runner, keys) = (self.runner.clone(), vec![self.runner.keys.era.clone(), named.entry.clone()]);
        let lock = named.lock.clone();
        let forget = move |link: &Link<K>| {
            keeper::heard(link, &runner, &named.entry);
            link.waiters.wake(&named.lock);
        };
        let answer = self.carry_out(operation, keys, args, forget).await;
        self.link.waiters.wake(&lock);
        answer
    }

    /// To its end, also where the caller goes away. Redis does not tell a connection of its own writes: `forget` is called then,
    /// when it is done.
    pub(super) async fn carry_out(
        &self,
        operation: &'static str,
        keys: Vec<Bytes>,
        args: Vec<Arg>,
        forget: impl Fn(&Link<K>) + Send + Sync + 'static,
    ) -> Result<Answer, StoreError> {
        let (done, is_done) = oneshot::channel();
        let (runner, link, deadline) = (self.runner.clone(), self.link.clone(), Deadline::current());
        let caller = Caller { link: link.clone(), forget: Arc::new(forget), is_there: true };
        let forget = caller.forget.clone();
        self.handle.spawn(async move {
            let keys: Vec<&Bytes> = keys.iter().collect();
            let run = runner.run(operation, &keys, args);
            let answer = match deadline {
                Some(deadline) => deadline.scope(run).await,
                None => run.await,
            };
            if done.send(answer).is_err() {
                forget(&link);
            }
        });
        let answer = is_done.await;
        caller.has_answer();
        // Where the runtime ends, there is none.
        answer.unwrap_or(Err(StoreError::Untold))
    }
}

/// Who waits for the end of a write. Dropped before, it may have happened already.
struct Caller<K, F: Fn(&Link<K>)> {
    link: Arc<Link<K>>,
    forget: Arc<F>,
    is_there: bool,
}

impl<K, F: Fn(&Link<K>)> Caller<K, F> {
    fn has_answer(mut self) {
        self.is_there = false;
    }
}

impl<K, F: Fn(&Link<K>)> Drop for Caller<K, F> {
    fn drop(&mut self) {
        if self.is_there {
            (self.forget)(&self.link);
        }
    }
}

impl Written {
    fn add_to(self, args: &mut Vec<Arg>, tags: &[String]) {
        let stores = u32::from(self.body.is_some());
        args.extend([self.fresh.into(), self.stale.into(), stores.into()]);
        let tags = if self.body.is_some() { tags } else { &[] };
        args.push(self.body.unwrap_or_default().into());
        args.extend(tags.iter().map(Arg::from));
    }
}
