use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Notices that commands time out while nothing at all is answered: a peer that went away without a word.
///
/// The driver's own check looks at the last write, which a steady stream of commands renews for ever.
#[derive(Debug)]
pub(crate) struct Silence {
    limit: Duration,
    suspected: AtomicBool,
    since: Mutex<Option<Instant>>,
}

impl Silence {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, suspected: AtomicBool::new(false), since: Mutex::new(None) }
    }

    /// Something was answered. It writes nothing unless a command has timed out before.
    pub(crate) fn broken(&self) {
        if self.suspected.load(Relaxed) {
            self.suspected.store(false, Relaxed);
        }
    }

    /// A command timed out. `true`, once a limit, when nothing has been answered for that long.
    pub(crate) fn heard(&self, now: Instant) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match *since {
            Some(began) if self.suspected.load(Relaxed) => {
                let over = now.saturating_duration_since(began) >= self.limit;
                if over {
                    *since = Some(now);
                }
                over
            }
            _ => {
                self.suspected.store(true, Relaxed);
                *since = Some(now);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn only_timeouts_without_an_answer_between_them_add_up() {
        let (silence, start) = (Silence::new(10 * SECOND), Instant::now());
        assert!((0..10).all(|second| !silence.heard(start + second * SECOND)));
        silence.broken();
        assert!(!silence.heard(start + 10 * SECOND), "it was broken");
        assert!(!silence.heard(start + 19 * SECOND));
        assert!(silence.heard(start + 20 * SECOND));
        assert!(!silence.heard(start + 21 * SECOND), "once a limit");
        assert!(silence.heard(start + 30 * SECOND));
    }
}
