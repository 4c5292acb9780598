use std::{
    fmt::Write,
    sync::{Mutex, MutexGuard, PoisonError},
};

use buttress_core::{Decision, Origin, Reason, Rejected, thread_number};
use tokio::{sync::watch, time::Instant};

use crate::{
    breaker::Machine,
    published::Refusal,
    settings::Settings,
    shared::Shared,
    state::{Changes, Ticket, Transition, Verdict},
};

/// What all handles, services and calls of one breaker have in common.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) origin: Origin,
    pub(crate) shared: Shared,
    /// Only rare events come here.
    audience: Mutex<Audience>,
    /// The last transition of which was told, and when.
    told: Mutex<Option<(Transition, Instant)>>,
}

/// Who is told of transitions, and by which name.
#[derive(Debug)]
struct Audience {
    /// How many transitions there were before the breaker was lent. One of those may still be on its way here, when
    /// others listen already.
    before: u64,
    key: Option<String>,
    subscribers: Option<watch::Sender<Transition>>,
}

impl Audience {
    const NOBODY: Self = Self { before: u64::MAX, key: None, subscribers: None };
}

impl Inner {
    pub(crate) const fn new(origin: Origin, shared: Shared) -> Self {
        Self { origin, shared, audience: Mutex::new(Audience::NOBODY), told: Mutex::new(None) }
    }

    /// Lends it, as good as new.
    pub(crate) fn lend(&self, settings: Settings, key: Option<String>, now: Instant) {
        let (before, _nobody_listens) = self.shared.with(now, |machine| {
            machine.configure(settings, now);
            machine.renew()
        });
        *self.audience() = Audience { before, key, subscribers: None };
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whoever listens to a breaker that is returned hears its end, and nothing of the one that is lent next.
    pub(crate) fn give_back(&self, now: Instant) {
        let audience = std::mem::replace(&mut *self.audience(), Audience::NOBODY);
        self.shared.with(now, Machine::renew);
        // Its end wakes those who wait: not under the lock.
        drop(audience);
    }

    /// For the handle: runs with all that was gathered counted in, and tells what has changed.
    pub(crate) fn with<R>(&self, now: Instant, f: impl FnOnce(&mut Machine) -> R) -> R {
        let (result, changes) = self.shared.with(now, f);
        self.tell_all(&changes);
        result
    }

    /// The same for what changes the state itself.
    pub(crate) fn steer(&self, now: Instant, f: impl FnOnce(&mut Machine) -> Option<Transition>) {
        let (transition, mut changes) = self.shared.with(now, f);
        changes.extend(transition);
        self.tell_all(&changes);
    }

    #[inline]
    pub(crate) fn reject(&self, refusal: Refusal) -> Rejected {
        Decision::note(self.origin, "refused", || self.in_words());
        let rejected = self.origin.reject(Reason::CircuitOpen);
        match refusal.retry_after() {
            Some(after) => rejected.with_retry_after(after),
            None => rejected,
        }
    }

    /// Why it refuses. A call waits for no lock here: while another transition is told, its figures are left out.
    #[cold]
    fn in_words(&self) -> String {
        let state = self.shared.state().as_str();
        let Some((transition, at)) = self.told.try_lock().ok().and_then(|told| *told) else {
            return state.to_owned();
        };
        let Transition { calls, failed, slow, consecutive_failures, .. } = transition;
        let mut words = format!("{state} since {:.1?}", at.elapsed());
        _ = match (transition.open_for, calls) {
            (None, _) => Ok(()),
            (Some(_), 0) => write!(words, ": {consecutive_failures} failures in a row"),
            (Some(_), calls) => {
                let slow = if slow > 0 { format!(", {slow} were slow") } else { String::new() };
                write!(words, ": {} % of {calls} failed{slow}", failed * 100 / calls)
            }
        };
        words
    }

    pub(crate) fn settle(&self, ticket: Ticket, verdict: Verdict, now: impl Fn() -> Instant) {
        self.tell_all(&self.shared.settle(thread_number(), ticket, verdict, now));
    }

    #[inline]
    pub(crate) fn tell_all(&self, changes: &Changes) {
        changes.iter().for_each(|transition| self.tell(transition));
    }

    /// Outside of every lock, since a subscriber is a user's code.
    #[cold]
    fn tell(&self, transition: &Transition) {
        let &Transition { number, from, to, calls, failed, slow, consecutive_failures, open_for } =
            transition;
        if from == to {
            return;
        }
        let (key, subscribers, number) = {
            let audience = self.audience();
            if number <= audience.before {
                return;
            }
            (audience.key.clone(), audience.subscribers.clone(), number - audience.before)
        };
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = Some((*transition, Instant::now()));
        if let Some(subscribers) = subscribers {
            // Two transitions may be told at the same time: the later one stays.
            subscribers.send_if_modified(|last| {
                let is_news = last.number < number;
                if is_news {
                    *last = Transition { number, ..*transition };
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

    pub(crate) fn subscribe(&self, now: Instant) -> watch::Receiver<Transition> {
        let mut audience = self.audience();
        // Under the lock: a transition that comes next waits for it to be told, and is.
        let (standing, changes) = self.shared.with(now, |machine| machine.standing());
        let number = standing.number.saturating_sub(audience.before);
        let subscribers =
            audience.subscribers.get_or_insert_with(|| watch::channel(Transition { number, ..standing }).0);
        let receiver = subscribers.subscribe();
        drop(audience);
        self.tell_all(&changes);
        receiver
    }

    fn audience(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
