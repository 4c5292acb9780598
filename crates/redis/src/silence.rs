use std::{sync::Weak, time::Duration};

use tokio::time::Instant;

use crate::{
    sync::{AtomicBool, Mutex, Ordering::Relaxed, PoisonError},
    ticket::Ticket,
};

/// Notices that commands time out while nothing at all is answered: a peer that went away without a word.
///
/// One of the commands that timed out is watched. As long as the driver holds it, and nothing else is answered, there
/// is silence. How soon its caller gave up, and whether anybody hears a late answer, does not matter.
///
/// The driver's own check looks at the last write, which a steady stream of commands renews for ever.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Duration,
    suspected: AtomicBool,
    watched: Mutex<Option<(Weak<Ticket>, Instant)>>,
}

impl Silence {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, suspected: AtomicBool::new(false), watched: Mutex::new(None) }
    }

    /// Something was answered in time. It writes nothing unless a command has timed out before.
    pub(crate) fn broken(&self) {
        if self.suspected.load(Relaxed) {
            self.suspected.store(false, Relaxed);
        }
    }

    /// A command timed out. `true`, once a limit, when nothing has been answered for that long.
    pub(crate) fn heard(&self, ticket: &Weak<Ticket>, now: Instant) -> bool {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *watched {
            Some((first, since)) if self.suspected.load(Relaxed) && first.strong_count() > 0 => {
                let over = now.saturating_duration_since(*since) >= self.limit;
                if over {
                    *since = now;
                }
                over
            }
            _ => {
                self.suspected.store(true, Relaxed);
                *watched = Some((Weak::clone(ticket), now));
                false
            }
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod models;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn command() -> Arc<Ticket> {
        Ticket::new("GET".into(), &Arc::default()).0
    }

    #[tokio::test(start_paused = true)]
    async fn only_timeouts_without_an_answer_between_them_add_up() {
        let (silence, start) = (Silence::new(10 * SECOND), Instant::now());
        let unanswered = command();
        let heard = |after| silence.heard(&Arc::downgrade(&unanswered), start + after * SECOND);
        assert!((0..10).all(|second| !heard(second)));
        silence.broken();
        assert!(!heard(10), "it was broken");
        assert!(!heard(19));
        assert!(heard(20));
        assert!(!heard(21), "once a limit");
        assert!(heard(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_answer_breaks_it_too() {
        let (silence, start) = (Silence::new(10 * SECOND), Instant::now());
        let (first, second) = (command(), command());
        assert!(!silence.heard(&Arc::downgrade(&first), start));
        assert!(!silence.heard(&Arc::downgrade(&second), start + SECOND));
        drop(first);
        assert!(!silence.heard(&Arc::downgrade(&second), start + 10 * SECOND), "it begins anew");
        assert!(silence.heard(&Weak::new(), start + 20 * SECOND));
    }
}
