//! How many may have a connection, or make one, at the same time: a number that can change while they do.
//!
//! The pool beneath can be made larger, but not reliably smaller: its semaphore keeps the places of connections that were
//! never made, and counts them again when it grows. So it only ever grows, and this stands before it.

use std::{ops::Deref, sync::Arc, time::Duration};

use deadpool::managed::Object;
use tokio::time::timeout;

use crate::{
    connection::Connection,
    connector::Connector,
    sync::{AtomicUsize, Mutex, Notify, Ordering::SeqCst, PoisonError, Semaphore},
};

/// Its queue is first come, first served.
#[derive(Debug)]
pub(crate) struct Gate {
    places: Semaphore,
    waiting: AtomicUsize,
    limit: Mutex<Limit>,
    /// Told when it was set.
    pub(crate) changed: Notify,
}

#[derive(Debug)]
struct Limit {
    most: usize,
    /// So many places are taken that are no more there when they come back.
    owed: usize,
}

/// Why there is no place.
pub(crate) enum NoPlace {
    Late,
    Closed,
}

impl Gate {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let limit = Mutex::new(Limit { most, owed: 0 });
        let (places, waiting) = (Semaphore::new(most), AtomicUsize::new(0));
        Arc::new(Self { places, waiting, limit, changed: Notify::new() })
    }

    pub(crate) fn most(&self) -> usize {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner).most
    }

    /// How many wait for a place.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Takes a place, if one is free and nobody waits.
    pub(crate) fn take_now(self: &Arc<Self>) -> Option<Place> {
        self.places.try_acquire().ok()?.forget();
        Some(Place(Arc::clone(self)))
    }

    /// Waits for a place, for so long at most.
    pub(crate) async fn take(self: &Arc<Self>, longest: Duration) -> Result<Place, NoPlace> {
        match timeout(longest, self.wait()).await {
            Ok(place) => place.ok_or(NoPlace::Closed),
            Err(_elapsed) => Err(NoPlace::Late),
        }
    }

    /// None where it was closed.
    async fn wait(self: &Arc<Self>) -> Option<Place> {
        self.waiting.fetch_add(1, SeqCst);
        let _waiting = Waits(self);
        self.places.acquire().await.ok()?.forget();
        Some(Place(Arc::clone(self)))
    }

    /// From now on there are so many. Those that are taken beyond that are gone when they come back.
    pub(crate) fn set(&self, most: usize) {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if most >= limit.most {
            let more = most - limit.most;
            let paid = more.min(limit.owed);
            limit.owed -= paid;
            self.places.add_permits(more - paid);
        } else {
            let fewer = limit.most - most;
            limit.owed += fewer - self.places.forget_permits(fewer);
        }
        limit.most = most;
        drop(limit);
        self.changed.notify_waiters();
    }

    pub(crate) fn close(&self) {
        self.places.close();
    }
}

struct Waits<'a>(&'a Gate);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
        // Who goes just when his place has come leaves it to the next, or free. If there became fewer meanwhile, it is one
        // of those that are no more.
        let mut limit = self.0.limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.owed -= self.0.places.forget_permits(limit.owed);
    }
}

/// The right to one connection.
#[derive(Debug)]
pub(crate) struct Place(Arc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        let mut limit = self.0.limit.lock().unwrap_or_else(PoisonError::into_inner);
        if limit.owed > 0 {
            limit.owed -= 1;
        } else {
            self.0.places.add_permits(1);
        }
    }
}

/// A connection of the pool, with its place. In this order: whoever gets the place finds the connection.
#[derive(Debug)]
pub(crate) struct Borrowed {
    object: Object<Connector>,
    _place: Place,
}

impl Borrowed {
    pub(crate) const fn new(object: Object<Connector>, place: Place) -> Self {
        Self { object, _place: place }
    }

    /// The connection alone; the place is free.
    pub(crate) fn take(self) -> Connection {
        Object::take(self.object)
    }
}

impl Deref for Borrowed {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.object
    }
}

#[cfg(all(test, buttress_loom))]
mod models;
#[cfg(test)]
mod tests;
