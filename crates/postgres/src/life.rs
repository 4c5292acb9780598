use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures_util::future::{Either, join_all, select};

use crate::{Error, Postgres};

impl Postgres {
    /// Makes connections before there is traffic, all at the same time: as many as this, but at most the pool's size,
    /// also where that becomes smaller meanwhile. Those that are idle already count.
    ///
    /// # Errors
    /// The first one, when all have been tried: [`Error::Connect`] if a connection could not be made; what could be made
    /// stays. Where the pool is in use already it waits as a call does, and is refused as a call is.
    ///
    /// # Cancellation
    /// Dropped unfinished, what was made stays.
    pub async fn warm_up(&self, connections: usize) -> Result<(), Error> {
        let shared = self.shared();
        let deadline = shared.deadline()?;
        let overflow = &shared.pool.manager().overflow;
        let there = AtomicUsize::new(0);
        let lease = async || {
            let lease = shared.lease(deadline).await?;
            there.fetch_add(1, SeqCst);
            Ok(lease)
        };
        let all = join_all((0..connections.min(overflow.pool_size())).map(|_| lease()));
        // In a pool that was made smaller meanwhile, the others would wait for those that are there already.
        let enough = overflow.is_filled(|| there.load(SeqCst));
        match select(pin!(all), pin!(enough)).await {
            // None was given back before all were there, lest one be counted twice.
            Either::Left((leases, _)) => {
                leases.into_iter().try_for_each(|lease: Result<_, Error>| lease.map(drop))
            }
            Either::Right(_) => Ok(()),
        }
    }

    /// Closes the pool, for all clones and for good. From then on calls are refused with
    /// [`Reason::Closed`](buttress_core::Reason::Closed), those in the queue for a connection too, and nothing was sent of
    /// them. Whoever has a connection, or is making one, ends in peace. Idle connections are closed at once, the others when
    /// they are given back. Returns when all are gone, those too that are being ended in the background.
    ///
    /// It waits as long as the longest call takes: for a shutdown with a time limit, put a timeout around it. In a
    /// transaction's closure it would wait for itself. The server's processes end when they notice, some milliseconds
    /// later.
    ///
    /// # Cancellation
    /// Once polled, the pool stays closed; only the waiting ends, and can be taken up again by another call.
    pub async fn close(&self) {
        let pool = &self.shared().pool;
        pool.manager().overflow.close(|| pool.close());
        // Closing leaves those that had just been given back to somebody in the queue.
        drop(pool.retain(|_, _| false));
        self.shared().reaper.stop();
        let is_empty = || {
            let status = pool.status();
            (status.size, status.waiting) == (0, 0)
        };
        pool.manager().departures.all(is_empty).await;
    }
}
