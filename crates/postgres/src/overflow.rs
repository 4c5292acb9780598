use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use deadpool::managed::{Pool, RetainResult};

use crate::{
    PostgresConfig,
    connection::Connection,
    connector::Connector,
    gate::Gate,
    sync::{AtomicUsize, Mutex, Ordering::SeqCst, PoisonError},
};

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

/// The pool beneath, as far as it is looked after here.
pub(crate) trait Beneath {
    type Closed;

    /// How many connections it has, and how many of them nobody has or is about to get.
    fn count(&self) -> (usize, usize);

    /// How many are idle. Some that are counted as available are still on their way back.
    fn idle(&self) -> usize;

    /// Takes so many idle ones out of it, those that were used longest ago. Dropped, they are closed.
    fn close_idle(&self, many: usize) -> Self::Closed;
}

impl Beneath for Pool<Connector> {
    type Closed = RetainResult<Connection>;

    fn count(&self) -> (usize, usize) {
        let status = self.status();
        (status.size, status.available)
    }

    fn idle(&self) -> usize {
        let mut idle = 0;
        self.retain(|_, _| {
            idle += 1;
            true
        });
        idle
    }

    fn close_idle(&self, mut many: usize) -> Self::Closed {
        self.retain(|_, _| {
            let kept = many == 0;
            many = many.saturating_sub(1);
            kept
        })
    }
}

impl Overflow {
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        Self::of(config.pool_size, config.knobs.max_overflow)
    }

    fn of(pool_size: usize, max_overflow: usize) -> Self {
        Self {
            pool_size: AtomicUsize::new(pool_size),
            max_overflow: AtomicUsize::new(max_overflow),
            gate: Gate::new(pool_size + max_overflow),
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
    pub(crate) fn close(&self, close: impl FnOnce()) {
        let alone = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        close();
        drop(alone);
        self.gate.close();
    }

    /// Returns when there are as many as the pool's size, also because it became smaller.
    pub(crate) async fn is_filled(&self, there: impl Fn() -> usize) {
        let mut told = pin!(self.gate.changed.notified());
        poll_fn(|cx| {
            while told.as_mut().poll(cx).is_ready() {
                told.set(self.gate.changed.notified());
            }
            if there() >= self.pool_size() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Closes what is idle beyond the pool's size, those that were used longest ago.
    pub(crate) fn trim(&self, pool: &impl Beneath) {
        if self.unwanted(pool) == 0 {
            return;
        }
        // One at a time, lest two close the same surplus twice. What is counted idle is idle or lent out when the surplus is
        // closed, so at least the pool's size stays.
        let alone = self.trimming.lock().unwrap_or_else(PoisonError::into_inner);
        let idle = pool.idle();
        let beyond = pool.count().0.saturating_sub(self.gate.most());
        let surplus = self.unwanted(pool).min(idle.saturating_sub(self.pool_size()).max(beyond.min(idle)));
        if surplus == 0 {
            return;
        }
        let trimmed = pool.close_idle(surplus);
        drop(alone);
        drop(trimmed);
    }

    /// How many more than the pool's size are idle and nobody waits for. It is too few while others are connecting, who are
    /// not told from those who wait; but they will give their connections back.
    fn unwanted(&self, pool: &impl Beneath) -> usize {
        let (size, available) = pool.count();
        let beyond = size.saturating_sub(self.gate.most());
        let idle = available.saturating_sub(self.gate.waiting());
        idle.saturating_sub(self.pool_size()).max(beyond)
    }
}

#[cfg(all(test, buttress_loom))]
mod models;

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
