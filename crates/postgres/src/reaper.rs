use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use deadpool::managed::{Pool, WeakPool};
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, sleep},
};

use crate::{
    PostgresConfig,
    connector::Connector,
    sync::{Mutex, PoisonError},
    turn::Turn,
};

/// Closes connections that have been idle too long or grew too old, from a background task.
///
/// The task ends with this, or when the pool is closed; until then it does not keep the pool alive. If its runtime ends,
/// the next caller starts it again.
#[derive(Debug)]
pub(crate) struct Reaper {
    /// None: there is nothing to do, unless there is an overflow.
    every: Option<Duration>,
    idle_timeout: Option<Duration>,
    running: Turn,
    task: Post<Task>,
}

/// Dropped, it ends.
#[derive(Debug)]
struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Has one task at most, and none any more when it was given up.
#[derive(Debug)]
struct Post<T>(Mutex<Held<T>>);

#[derive(Debug)]
enum Held<T> {
    Vacant,
    By(T),
    GivenUp,
}

impl<T> Default for Post<T> {
    fn default() -> Self {
        Self(Mutex::new(Held::Vacant))
    }
}

impl<T> Post<T> {
    /// The one before, or this one where it was given up, is dropped.
    fn fill(&self, task: T) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = match *held {
            Held::GivenUp => Held::By(task),
            _ => std::mem::replace(&mut *held, Held::By(task)),
        };
        drop(held);
        drop(dropped);
    }

    fn give_up(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let dropped = std::mem::replace(&mut *held, Held::GivenUp);
        drop(held);
        drop(dropped);
    }
}

/// As bb8 and HikariCP do.
const SELDOM: Duration = Duration::from_secs(30);
const OFTEN: Duration = Duration::from_millis(5);

impl Reaper {
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        let knobs = &config.knobs;
        let shortest = knobs.idle_timeout.into_iter().chain(knobs.max_lifetime).min();
        let every = shortest.map(|limit| (limit / 4).clamp(OFTEN, SELDOM));
        Self { every, idle_timeout: knobs.idle_timeout, running: Turn::default(), task: Post::default() }
    }

    /// Starts, unless it runs already. Outside of a runtime it does nothing.
    pub(crate) fn start(&self, pool: &Pool<Connector>) {
        // Where it runs, a call pays for this reading alone.
        if self.running.is_taken() || pool.is_closed() {
            return;
        }
        // There may be an overflow since the pool was resized.
        let overflow = || (pool.manager().overflow.max_overflow() > 0).then_some(SELDOM);
        let (Some(every), Ok(runtime)) = (self.every.or_else(overflow), Handle::try_current()) else {
            return;
        };
        let Some(running) = self.running.take() else { return };
        let (pool, idle_timeout) = (pool.weak(), self.idle_timeout);
        let task = runtime.spawn(async move {
            reap(pool, every, idle_timeout).await;
            drop(running);
        });
        self.task.fill(Task(task.abort_handle()));
    }

    /// For good: the pool is closed.
    pub(crate) fn stop(&self) {
        self.task.give_up();
    }
}

async fn reap(pool: WeakPool<Connector>, every: Duration, idle_timeout: Option<Duration>) {
    loop {
        sleep(every).await;
        let Some(pool) = pool.upgrade() else { return };
        if pool.is_closed() {
            return;
        }
        sweep(&pool, idle_timeout);
    }
}

fn sweep(pool: &Pool<Connector>, idle_timeout: Option<Duration>) {
    let now = Instant::now();
    let mut expired = 0;
    let swept = pool.retain(|connection, metrics| {
        let (age, uses) = (&connection.age, metrics.recycle_count);
        if age.is_over(|| now) || idle_timeout.is_some_and(|limit| age.idle(uses, now) >= limit) {
            expired += 1;
            return false;
        }
        // Nobody would ever come to see that, where the others suffice.
        !connection.client.is_closed()
    });
    let connector = pool.manager();
    connector.expired.fetch_add(expired, Relaxed);
    drop(swept);
    connector.overflow.trim(pool);
}

#[cfg(all(test, buttress_loom))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Postgres, Query};

    async fn runs_after_a_call(db: &Postgres) -> bool {
        db.query(Query::new("select 1")).await.unwrap_err();
        db.shared().reaper.running.is_taken()
    }

    #[tokio::test]
    async fn an_overflow_that_was_given_later_is_looked_after_too() {
        let config = PostgresConfig::from_url("postgres://nobody@127.0.0.1:1/none").unwrap();
        let never = config.with_idle_timeout(None).with_max_lifetime(None);
        let db = Postgres::new(never).unwrap();
        assert!(!runs_after_a_call(&db).await, "there is nothing to do");
        db.resize(2, 3).unwrap();
        assert!(runs_after_a_call(&db).await);
    }
}
