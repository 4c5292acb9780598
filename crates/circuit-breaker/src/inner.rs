use std::sync::{Mutex, MutexGuard, PoisonError};

use buttress_core::{Origin, Reason, Rejected, thread_number};
use tokio::{sync::watch, time::Instant};

use crate::{
    published::Refusal,
    shared::Shared,
    state::{Ticket, Transition, Verdict},
};

/// What all handles, services and calls of one breaker have in common.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) origin: Origin,
    pub(crate) shared: Shared,
    /// Only rare events come here.
    audience: Mutex<Audience>,
}

/// Who is told of transitions, and by which name.
#[derive(Debug, Default)]
struct Audience {
    key: Option<String>,
    subscribers: Option<watch::Sender<Transition>>,
}

impl Inner {
    pub(crate) const fn new(origin: Origin, shared: Shared) -> Self {
        Self { origin, shared, audience: Mutex::new(Audience { key: None, subscribers: None }) }
    }

    #[inline]
    pub(crate) fn reject(&self, refusal: Refusal) -> Rejected {
        let rejected = self.origin.reject(Reason::CircuitOpen);
        match refusal.retry_after() {
            Some(after) => rejected.with_retry_after(after),
            None => rejected,
        }
    }

    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict, now: impl Fn() -> Instant) {
        if let Some(transition) = self.shared.settle(thread_number(), ticket, verdict, now) {
            self.tell(&transition);
        }
    }

    /// Outside of every lock, since a subscriber is a user's code.
    #[cold]
    pub(crate) fn tell(&self, transition: &Transition) {
        let &Transition { from, to, calls, failed, slow, consecutive_failures, open_for, .. } = transition;
        if from == to {
            return;
        }
        let (key, subscribers) = {
            let audience = self.audience();
            (audience.key.clone(), audience.subscribers.clone())
        };
        if let Some(subscribers) = subscribers {
            // Two transitions may be told at the same time: the later one stays.
            subscribers.send_if_modified(|last| {
                let is_news = last.number < transition.number;
                if is_news {
                    *last = *transition;
                }
                is_news
            });
        }
        let (name, from, to) = (self.origin.name(), from.as_str(), to.as_str());
        match open_for {
            Some(open_for) => tracing::warn!(
                name,
                key,
                from,
                to,
                calls,
                failed,
                slow,
                consecutive_failures,
                ?open_for,
                "circuit breaker opened: calls are refused"
            ),
            None => tracing::info!(
                name,
                key,
                from,
                to,
                calls,
                failed,
                slow,
                consecutive_failures,
                "circuit breaker changed its state"
            ),
        }
    }

    pub(crate) fn subscribe(&self, standing: Transition) -> watch::Receiver<Transition> {
        let mut audience = self.audience();
        audience.subscribers.get_or_insert_with(|| watch::channel(standing).0).subscribe()
    }

    #[cfg(feature = "keyed")]
    pub(crate) fn name_key(&self, key: String) {
        self.audience().key = Some(key);
    }

    /// Whoever listens to a breaker that is returned hears its end, and nothing of the one that is lent next.
    pub(crate) fn forget(&self) {
        let before = std::mem::take(&mut *self.audience());
        // Its end wakes those who wait: not under the lock.
        drop(before);
    }

    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
