use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use deadpool::managed::Pool;

use crate::{PostgresConfig, connector::Connector, gate::Gate};

/// Keeps the pool from staying larger than its size.
///
/// To the pool beneath, all connections are alike, and it may have as many as its size and the overflow together. What is
/// too many is closed when as many as the size are idle: that is SQLAlchemy's rule. Closing whatever is given back while
/// there are more than the size would make and close a connection for each call where a few more than the size are busy.
#[derive(Debug)]
pub(crate) struct Overflow {
    pool_size: AtomicUsize,
    max_overflow: AtomicUsize,
    /// As many places as the size and the overflow are together.
    pub(crate) gate: Arc<Gate>,
    trimming: Mutex<()>,
}

impl Overflow {
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        Self {
            pool_size: AtomicUsize::new(config.pool_size),
            max_overflow: AtomicUsize::new(config.knobs.max_overflow),
            gate: Gate::new(config.pool_size + config.knobs.max_overflow),
            trimming: Mutex::new(()),
        }
    }

    pub(crate) fn pool_size(&self) -> usize {
        self.pool_size.load(SeqCst)
    }

    pub(crate) fn max_overflow(&self) -> usize {
        self.max_overflow.load(SeqCst)
    }

    /// Sets both; `grow` makes the pool beneath as large as it must be.
    pub(crate) fn set(&self, pool_size: usize, max_overflow: usize, grow: impl FnOnce(usize)) {
        let _alone = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let most = pool_size + max_overflow;
        grow(most);
        self.pool_size.store(pool_size, SeqCst);
        self.max_overflow.store(max_overflow, SeqCst);
        self.gate.set(most);
    }

    /// Closes the pool beneath, and what stands before it. Not while it grows: it would be made large again just before it is
    /// closed for good, and keep what is given back.
    pub(crate) fn close(&self, pool: &Pool<Connector>) {
        let alone = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        pool.close();
        drop(alone);
        self.gate.close();
    }

    /// Closes what is idle beyond the pool's size, those that were used longest ago.
    pub(crate) fn trim(&self, pool: &Pool<Connector>) {
        if self.unwanted(pool) == 0 {
            return;
        }
        // One at a time, lest two close the same surplus twice. What is counted idle is idle or lent out when the surplus is
        // closed, so at least the pool's size stays.
        let alone = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let mut idle = 0_usize;
        pool.retain(|_, _| {
            idle += 1;
            true
        });
        let beyond = pool.status().size.saturating_sub(self.gate.most());
        let mut surplus =
            self.unwanted(pool).min(idle.saturating_sub(self.pool_size()).max(beyond.min(idle)));
        if surplus == 0 {
            return;
        }
        let trimmed = pool.retain(|_, _| {
            let kept = surplus == 0;
            surplus = surplus.saturating_sub(1);
            kept
        });
        drop(alone);
        drop(trimmed);
    }

    /// How many more than the pool's size are idle and nobody waits for. It is too few while others are connecting, who are
    /// not told from those who wait; but they will give their connections back.
    fn unwanted(&self, pool: &Pool<Connector>) -> usize {
        let status = pool.status();
        let beyond = status.size.saturating_sub(self.gate.most());
        let idle = status.available.saturating_sub(self.gate.waiting());
        idle.saturating_sub(self.pool_size()).max(beyond)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Barrier, thread};

    use buttress_testkit::TestDatabase;

    use crate::{Postgres, PostgresConfig, connector::given_back};

    #[tokio::test]
    async fn five_given_back_at_the_same_time_leave_two() {
        let test = TestDatabase::new().await;
        let config = PostgresConfig::from_url(&test.url()).unwrap().with_pool_size(2).with_max_overflow(3);
        let db = Postgres::new(config).unwrap();
        let pool = &db.shared().pool;
        for round in 0..40 {
            let objects = futures_util::future::join_all((0..5).map(|_| pool.get())).await;
            let barrier = Barrier::new(objects.len());
            thread::scope(|scope| {
                for object in objects {
                    let barrier = &barrier;
                    scope.spawn(move || {
                        barrier.wait();
                        drop(object.unwrap());
                        given_back(pool);
                    });
                }
            });
            let status = pool.status();
            assert_eq!((status.size, status.available), (2, 2), "round {round}");
        }
    }
}
