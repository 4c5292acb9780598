use std::collections::{HashMap, HashSet};

use http::Uri;

use crate::{connection::Connection, places::Book};

/// Calls that the cap on all connections together keeps waiting, and nothing else.
pub(crate) struct Demand<'a> {
    /// For whom somebody waits at least as long as the first of those calls.
    before: HashSet<&'a Uri>,
    /// More connections are wanted than are about to be closed.
    pub(crate) unmet: bool,
}

impl<'a> Demand<'a> {
    pub(crate) fn of(book: &'a Book) -> Option<Self> {
        let caps = book.caps;
        if book.taken < caps.total {
            return None;
        }
        let mut before = HashSet::new();
        let mut waiting = book.waiting.values().map(|waiter| &waiter.host);
        let first = waiting.by_ref().find(|&host| {
            before.insert(host);
            book.taken_by(host) < caps.per_host
        })?;
        let (mut wanted, mut promised) = (1, HashMap::from([(first, 1)]));
        while wanted <= book.leaving {
            let Some(host) = waiting.next() else { break };
            let promised = promised.entry(host).or_insert(0_usize);
            if book.taken_by(host) + *promised < caps.per_host {
                *promised += 1;
                wanted += 1;
            }
        }
        Some(Self { before, unmet: wanted > book.leaving })
    }

    /// Whether this connection is to be closed for it. It is not where somebody waits longer for the same host: hyper gives
    /// the connection to him.
    pub(crate) fn may_have(&self, connection: &Connection) -> bool {
        self.unmet && !connection.has_orders() && !self.before.contains(&connection.host)
    }
}

impl Book {
    /// Which connection to close for it: the one that has been idle longest.
    pub(crate) fn idle_for(&self, demand: &Demand<'_>) -> Option<u64> {
        let awaited: HashSet<&Uri> = self.waiting.values().map(|waiter| &waiter.host).collect();
        let idle = self.open.iter().filter(|(_, connection)| {
            demand.may_have(connection) && !awaited.contains(&connection.host) && connection.is_idle()
        });
        idle.min_by_key(|(_, connection)| connection.idle_since()).map(|(&number, _)| number)
    }
}
