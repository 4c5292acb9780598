use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use fred::bytes_utils::Str;

/// Counts a command among the unanswered ones of its connection for as long as the driver holds it.
///
/// The driver tells its callers nothing about a command that timed out: it stays on the connection's list, with all its
/// arguments, until it is answered or the connection is made anew. So the name it is given there is this.
#[derive(Debug)]
pub(crate) struct Ticket {
    name: Cow<'static, str>,
    unanswered: Arc<AtomicUsize>,
}

impl Ticket {
    /// It, and how many there are now.
    pub(crate) fn new(name: Cow<'static, str>, unanswered: &Arc<AtomicUsize>) -> (Arc<Self>, usize) {
        let others = unanswered.fetch_add(1, Relaxed);
        (Arc::new(Self { name, unanswered: Arc::clone(unanswered) }), others + 1)
    }

    /// The command's name, which holds the ticket.
    pub(crate) fn into_name(self: Arc<Self>) -> Str {
        Str::try_from(Bytes::from_owner(Held(self))).expect("it was a string before")
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.unanswered.fetch_sub(1, Relaxed);
    }
}

struct Held(Arc<Ticket>);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        self.0.name.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_counts_until_its_last_copy_is_dropped() {
        let unanswered = Arc::default();
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
