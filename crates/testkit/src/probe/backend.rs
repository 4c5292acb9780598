//! The scripted backend behind every `Probed` service, and what it has seen.

use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use super::Probed;

/// Scripts what [`Probed`] services do, and tells what was done to them.
///
/// A clone is the same backend, and so is every service that it [makes](Self::service).
#[derive(Debug, Clone, Default)]
pub struct Backend(Arc<Mutex<State>>);

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) script: Steps,
    pub(super) seen: Seen,
    pub(super) waiting: Vec<Waker>,
}

/// What the script says of the calls to come.
#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) ready_after: usize,
    pub(super) reply_after: usize,
    pub(super) failures: usize,
    pub(super) panic: Option<PanicAt>,
    pub(super) held: bool,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) calls: usize,
    pub(super) unready_calls: usize,
    pub(super) reservations: usize,
    pub(super) in_flight: usize,
    pub(super) completed: usize,
    pub(super) abandoned: usize,
}

/// Where a scripted panic strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PanicAt {
    /// In `Service::call`.
    Call,
    /// In the poll of the future that `Service::call` gave.
    Future,
}

/// The error of a call that was scripted to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptedFailure;

impl fmt::Display for ScriptedFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("scripted failure")
    }
}

impl Error for ScriptedFailure {}

impl Backend {
    /// A backend that is ready and replies at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// A service in front of it that replies with the request.
    pub fn service<E>(&self) -> Probed<E> {
        Probed::new(self.clone())
    }

    /// From now on, readiness takes so many polls that are pending first, on each service and each time.
    pub fn ready_after(&self, polls: usize) -> &Self {
        self.lock().script.ready_after = polls;
        self
    }

    /// From now on, a call takes so many polls that are pending before its reply.
    pub fn reply_after(&self, polls: usize) -> &Self {
        self.lock().script.reply_after = polls;
        self
    }

    /// The next `calls` fail with [`ScriptedFailure`].
    pub fn fail_next(&self, calls: usize) -> &Self {
        self.lock().script.failures = calls;
        self
    }

    /// The next call panics.
    pub fn panic_next(&self, at: PanicAt) -> &Self {
        self.lock().script.panic = Some(at);
        self
    }

    /// From now on no call is replied to, until [`release`](Self::release).
    pub fn hold(&self) -> &Self {
        self.lock().script.held = true;
        self
    }

    /// Lets the calls go on that [`hold`](Self::hold) keeps.
    pub fn release(&self) -> &Self {
        let waiting = {
            let mut state = self.lock();
            state.script.held = false;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        self
    }

    /// Ready and replying at once again; what was seen stays.
    pub fn calm(&self) -> &Self {
        self.release();
        self.lock().script = Steps::default();
        self
    }

    /// How often it was called.
    pub fn calls(&self) -> usize {
        self.lock().seen.calls
    }

    /// How many of the calls went to a service that had not been polled ready for them.
    pub fn unready_calls(&self) -> usize {
        self.lock().seen.unready_calls
    }

    /// How many services are ready at this moment, neither called nor dropped since.
    pub fn reservations(&self) -> usize {
        self.lock().seen.reservations
    }

    /// How many calls are neither replied to nor dropped.
    pub fn in_flight(&self) -> usize {
        self.lock().seen.in_flight
    }

    /// How many calls were replied to, failures included.
    pub fn completed(&self) -> usize {
        self.lock().seen.completed
    }

    /// How many calls were dropped before their reply, or panicked.
    pub fn abandoned(&self) -> usize {
        self.lock().seen.abandoned
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
