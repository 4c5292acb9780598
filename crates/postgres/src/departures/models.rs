//! Whoever closes the pool hears of the last departure, and of none too early.

use std::sync::Arc;

use buttress_testkit::models::model;
use loom::{
    future::block_on,
    sync::{Mutex, atomic::AtomicBool},
    thread,
};

use super::*;

/// A pool with so many connections, none of them ended yet.
struct Pool {
    size: Mutex<usize>,
    open: AtomicUsize,
    closed: AtomicBool,
}

fn pool(size: usize) -> (Arc<Pool>, Arc<Departures>) {
    let closed = AtomicBool::new(false);
    (Arc::new(Pool { size: Mutex::new(size), open: AtomicUsize::new(size), closed }), Arc::default())
}

impl Pool {
    async fn close(&self, departures: &Departures) {
        self.closed.store(true, Relaxed);
        departures.all(|| *self.size.lock().unwrap() == 0).await;
        assert_eq!(self.open.load(Relaxed), 0, "some are still being ended");
    }

    /// One is given back, and closed where the pool is.
    fn give_back(&self, departures: &Departures) {
        {
            let mut size = self.size.lock().unwrap();
            self.open.fetch_sub(1, Relaxed);
            *size -= 1;
        }
        if self.closed.load(Relaxed) {
            departures.tell();
        }
    }

    /// One leaves the pool, and is ended in the background.
    fn lose(&self, departures: &Departures) {
        departures.begin();
        *self.size.lock().unwrap() -= 1;
        self.open.fetch_sub(1, Relaxed);
        departures.end();
    }
}

#[test]
fn loom_a_pool_is_empty_when_the_last_has_been_ended() {
    for both in [false, true] {
        model(3, move || {
            let (pool, departures) = pool(2);
            let (other, told) = (Arc::clone(&pool), Arc::clone(&departures));
            let one = thread::spawn(move || other.lose(&told));
            let (other, told) = (Arc::clone(&pool), Arc::clone(&departures));
            let two = thread::spawn(move || if both { other.lose(&told) } else { other.give_back(&told) });
            block_on(pool.close(&departures));
            one.join().unwrap();
            two.join().unwrap();
        });
    }
}
