//! Caps on connections that change while calls wait.

use std::{
    collections::HashMap,
    sync::{Arc, MutexGuard},
};

use http::Uri;

use crate::{
    builder::InvalidConfig,
    client::Connections,
    connection::Connection,
    places::{Book, Caps, Places},
};

impl Connections {
    /// Sets how many connections there may be to one host, from now on: see
    /// [`Builder::max_connections_per_host`](crate::Builder::max_connections_per_host).
    ///
    /// A higher one lets those in who wait. With a lower one, those beyond it are closed: what is idle at once, and what has
    /// been idle as long to a millisecond with it; the others when their calls have ended. Until then nobody gets a new
    /// one. How many may be kept idle stays as it is.
    ///
    /// # Errors
    /// [`InvalidConfig::NoConnections`] if it is zero. Then it stays as it is.
    pub fn set_max_connections_per_host(&self, count: usize) -> Result<(), InvalidConfig> {
        self.set(count, |caps| caps.per_host = count)
    }

    /// Sets how many connections there may be to all hosts together, from now on: see
    /// [`Builder::max_connections`](crate::Builder::max_connections). It works as
    /// [`set_max_connections_per_host`](Self::set_max_connections_per_host) does.
    ///
    /// # Errors
    /// [`InvalidConfig::NoConnections`] if it is zero. Then it stays as it is.
    pub fn set_max_connections(&self, count: usize) -> Result<(), InvalidConfig> {
        self.set(count, |caps| caps.total = count)
    }

    fn set(&self, count: usize, set: impl FnOnce(&mut Caps)) -> Result<(), InvalidConfig> {
        if count == 0 {
            return Err(InvalidConfig::NoConnections);
        }
        let places = self.places();
        let mut book = places.book();
        set(&mut book.caps);
        places.is_over.raise();
        places.settle(book);
        Ok(())
    }
}

impl Places {
    /// Closes what is beyond the caps, since they were lowered.
    pub(crate) fn close_surplus(&self, book: &mut MutexGuard<'_, Book>) {
        if self.is_over.is_raised() {
            let is_over = book.dismiss_surplus();
            self.is_over.set(is_over);
            self.close_dismissed(book);
        }
    }
}

impl Book {
    /// Has as many idle connections leave as are beyond the caps: those that have been idle longest first, as hyper's pool
    /// closes them. Whether there are more than the caps allow still.
    ///
    /// Of those that are in use nobody knows which ends first: one that goes on for long would leave its place to nobody, and
    /// keep others from being closed in its stead.
    fn dismiss_surplus(&mut self) -> bool {
        let caps = self.caps;
        let mut surplus: HashMap<Uri, usize> = HashMap::new();
        for (host, taken) in self.taken_by_hosts() {
            if taken > caps.per_host {
                surplus.insert(host.clone(), taken - caps.per_host);
            }
        }
        let mut of_all = self.taken.saturating_sub(caps.total);
        let is_over = of_all > 0 || !surplus.is_empty();
        if !is_over {
            return false;
        }
        let mut stay = Vec::new();
        for (number, connection) in &self.open {
            if connection.has_orders() {
                of_all = of_all.saturating_sub(1);
                if let Some(of_host) = surplus.get_mut(&connection.host) {
                    *of_host = of_host.saturating_sub(1);
                }
            } else if connection.is_idle() {
                stay.push((connection.idle_since(), *number, Arc::clone(connection)));
            }
        }
        stay.sort_by_key(|(idle_since, ..)| *idle_since);
        // First what is beyond a host's own cap: that counts for all of them, too.
        let mut others = Vec::new();
        for (_, number, connection) in stay {
            match surplus.get_mut(&connection.host).filter(|of_host| **of_host > 0) {
                Some(of_host) => {
                    *of_host -= 1;
                    of_all = of_all.saturating_sub(1);
                    self.dismiss(number);
                }
                None => others.push(number),
            }
        }
        others.into_iter().take(of_all).for_each(|number| self.dismiss(number));
        true
    }

    /// Whether there are more than the caps allow when those have gone that are to go, and this is one of them.
    pub(crate) fn is_beyond(&self, connection: &Connection) -> bool {
        let of_host = self.open.values().filter(|open| open.has_orders() && open.host == connection.host);
        self.taken > self.caps.total + self.leaving
            || self.taken_by(&connection.host) > self.caps.per_host + of_host.count()
    }
}
