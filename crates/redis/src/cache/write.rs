//! How values are stored, and what else is written.

use std::{fmt::Display, str::FromStr, sync::Arc};

use buttress_cache::Stored;
use buttress_core::Deadline;
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::oneshot, time::timeout_at};

use crate::{
    Arg,
    cache::{
        RedisStore, StoreError,
        answer::Answer,
        body,
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

/// What `fill` and `put` answer where Redis had none left: nothing is stored, and what others write is told all the same.
const NO_MEMORY: u64 = 2;

/// What a value becomes in Redis.
struct Written {
    fresh: u64,
    stale: u64,
    /// Nothing where it is not stored.
    body: Option<Bytes>,
}

impl<K, V> RedisStore<K, V>
where
    K: Clone + Display + FromStr + Send + Sync + 'static,
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    /// What stands first in the arguments of `fill` and `put`, up to their own, and the value.
    /// What would not be read back, for it is nested too deep for example, is not stored.
    fn written(&self, stored: &Stored<V>) -> Written {
        let fresh = millis(stored.fresh_for).min(LONGEST_LIFE);
        let stale = millis(stored.stale_for).min(LONGEST_LIFE - fresh);
        let tags = stored.tags.len() <= MOST_TAGS && stored.tags.iter().all(|tag| tag.len() <= LONGEST);
        let body = (tags && fresh > 0).then(|| body::write(&stored.value, self.limit)).flatten();
        let body = body.filter(|body| body::read::<V>(body).is_some());
        if body.is_none() {
            count(&self.link.counters.unstorable);
        }
        Written { fresh, stale, body }
    }

    fn head(&self, named: &Named) -> Vec<Arg> {
        let version = u32::from(self.version).into();
        vec![version, self.runner.keys.tag_prefix.clone().into(), named.lock.clone().into()]
    }

    /// Carried out to its end, also where the caller goes away or his deadline passes: the value is there, and others wait. For
    /// him it is not stored then.
    pub(super) async fn run_fill(&self, held: Held, key: &K, stored: &Stored<V>) -> Result<bool, StoreError> {
        let named = self.runner.keys.of(key).ok_or(StoreError::TooLong)?;
        let mut args = self.head(&named);
        let list = self.runner.keys.list.clone();
        args.extend([token_text(held.claim.token).into(), held.since.into(), list.into()]);
        self.written(stored).add_to(&mut args, &stored.tags);
        let connection = self.link.telling().ok_or(StoreError::Untold)?;
        let runner = self.runner.clone();
        let filling = self.handle.spawn(async move {
            let [begin, end] = runner.keys.marks(connection);
            let keys = [&runner.keys.era, &named.entry, &begin, &end];
            let answer = runner.run("fill", &keys, args).await?;
            held.claim.given_back();
            Ok(answer)
        });
        let filled = match Deadline::current() {
            Some(deadline) => match timeout_at(deadline.instant(), filling).await {
                Ok(filled) => filled,
                Err(_passed) => return Ok(false),
            },
            None => filling.await,
        };
        let answer: Answer = filled.unwrap_or(Err(StoreError::Untold))?;
        self.link.note(answer.era);
        self.heed(&answer);
        if answer.code == 0 {
            count(&self.link.counters.refused);
        }
        Ok(answer.code != 0)
    }

    pub(super) async fn run_put(&self, key: &K, stored: &Stored<V>) -> Result<(), StoreError> {
        let named = self.runner.keys.of(key).ok_or(StoreError::TooLong)?;
        let mut args = self.head(&named);
        self.written(stored).add_to(&mut args, &stored.tags);
        // Where there is none, Redis does not tell either.
        let marks = self.runner.keys.marks(self.link.telling().unwrap_or_default());
        let answer = self.write_entry("put", key, named, &marks, args).await?;
        self.link.note(answer.era);
        self.heed(&answer);
        Ok(())
    }

    fn heed(&self, answer: &Answer) {
        if answer.code == NO_MEMORY {
            count(&self.link.counters.unstorable);
        }
    }

    /// The lock is gone after that, too.
    pub(super) async fn write_entry(
        &self,
        operation: &'static str,
        key: &K,
        named: Named,
        marks: &[Bytes],
        args: Vec<Arg>,
    ) -> Result<Answer, StoreError> {
        let mut keys = vec![self.runner.keys.era.clone(), named.entry.clone()];
        keys.extend_from_slice(marks);
        let (lock, key) = (named.lock.clone(), key.clone());
        let forget = move |link: &Link<K>| {
            link.forget(&key);
            link.waiters.wake(&named.lock);
        };
        let answer = self.carry_out(operation, keys, args, forget).await;
        self.link.waiters.wake(&lock);
        answer
    }

    /// To its end, also where the caller goes away. What Redis tells a connection of its own writes is not heeded: `forget` is
    /// called then, when it is done.
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
