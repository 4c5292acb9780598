use std::{borrow::Cow, sync::Arc};

use bytes::Bytes;
use fred::bytes_utils::Str;

use crate::sync::{AtomicUsize, Ordering::Relaxed};

/// Counts a command among the unanswered ones of its connection for as long as the driver holds it.
///
/// The driver tells its callers nothing about a command that timed out: it stays on the connection's list, with all its
/// arguments, until it is answered or the connection is made anew. So the name it is given there is this, or, where the driver
/// has a name of its own for it, its first argument.
#[derive(Debug)]
pub(crate) struct Ticket {
    name: Cow<'static, str>,
    unanswered: Arc<AtomicUsize>,
}

impl Ticket {
    /// It, and how many there are now.
    pub(super) fn new(name: Cow<'static, str>, unanswered: &Arc<AtomicUsize>) -> (Arc<Self>, usize) {
        let others = unanswered.fetch_add(1, Relaxed);
        (Arc::new(Self { name, unanswered: Arc::clone(unanswered) }), others + 1)
    }

    /// One more; none where more than so many would be unanswered, beside those that are queued.
    pub(crate) fn admit(
        name: Cow<'static, str>,
        unanswered: &Arc<AtomicUsize>,
        queued: usize,
        most: usize,
    ) -> Option<Arc<Self>> {
        // Counted at first, so that of several at the same time none overlooks the others.
        let (ticket, unanswered) = Self::new(name, unanswered);
        (unanswered.saturating_sub(queued) <= most).then_some(ticket)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The command's name, which holds the ticket.
    pub(crate) fn into_name(self: Arc<Self>) -> Str {
        Str::try_from(Bytes::from_owner(HeldByName(self))).expect("it was a string before")
    }

    /// An argument of the command, which holds the ticket.
    pub(crate) fn into_key(self: Arc<Self>, key: Bytes) -> Bytes {
        Bytes::from_owner(HeldByKey { key, _ticket: self })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.unanswered.fetch_sub(1, Relaxed);
    }
}

struct HeldByName(Arc<Ticket>);

impl AsRef<[u8]> for HeldByName {
    fn as_ref(&self) -> &[u8] {
        self.0.name.as_bytes()
    }
}

struct HeldByKey {
    key: Bytes,
    _ticket: Arc<Ticket>,
}

impl AsRef<[u8]> for HeldByKey {
    fn as_ref(&self) -> &[u8] {
        &self.key
    }
}

#[cfg(all(test, buttress_loom))]
mod models;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_counts_until_its_last_copy_is_dropped() {
        let unanswered = Arc::new(AtomicUsize::new(0));
        let (ticket, _) = Ticket::new("GET".into(), &unanswered);
        let key = ticket.into_key(Bytes::from_static(b"key"));
        let copy = key.slice(1..);
        drop(key);
        assert_eq!((&*copy, unanswered.load(Relaxed)), (&b"ey"[..], 1));
        drop(copy);
        assert_eq!(unanswered.load(Relaxed), 0);
    }

    #[test]
    fn a_name_counts_until_its_last_copy_is_dropped() {
        let unanswered = Arc::new(AtomicUsize::new(0));
        let (first, one) = Ticket::new("GET".into(), &unanswered);
        let (second, two) = Ticket::new("SET".into(), &unanswered);
        assert_eq!((one, two), (1, 2));
        let name = first.into_name();
        let copy = name.clone();
        assert_eq!(&*name, "GET");
        drop(name);
        drop(second);
        assert_eq!(unanswered.load(Relaxed), 1);
        drop(copy);
        assert_eq!(unanswered.load(Relaxed), 0);
    }
}
