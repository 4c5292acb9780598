use std::{
    fmt,
    sync::{Arc, atomic::Ordering::SeqCst},
};

use http::Uri;
use tokio::sync::oneshot;

use crate::places::{Book, Places};

/// The right to one connection to a host, given back when it is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    pub(crate) host: Uri,
    /// That of the open connection.
    pub(crate) number: Option<u64>,
    given_back: bool,
}

impl Place {
    /// One that has been written down.
    pub(crate) const fn new(places: Arc<Places>, host: Uri) -> Self {
        Self { places, host, number: None, given_back: false }
    }

    pub(crate) fn give_back(&mut self, book: &mut Book) {
        self.given_back = true;
        if let Some(number) = self.number {
            let connection = book.open.remove(&number);
            book.leaving -= usize::from(connection.is_some_and(|connection| connection.has_orders()));
        }
        book.give_back(&self.host);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.given_back {
            return;
        }
        let places = Arc::clone(&self.places);
        let mut book = places.book();
        self.give_back(&mut book);
        places.settle(book);
        places.calls.tell();
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}

/// A place in the queue, left when it is dropped. What has come in the meantime is passed on.
pub(crate) struct Waiting {
    pub(crate) places: Arc<Places>,
    pub(crate) ticket: u64,
    pub(crate) receiver: oneshot::Receiver<Place>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let left = {
            let mut book = self.places.book();
            let left = book.waiting.remove(&self.ticket);
            self.places.anybody_waits.store(!book.waiting.is_empty(), SeqCst);
            left
        };
        drop(left);
    }
}
