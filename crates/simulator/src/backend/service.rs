use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tower_service::Service;

use crate::{BackendError, state::Shared};

/// A simulated backend as a `Service`: made by [`World::backend`](crate::World::backend). It takes any request, is
/// always ready, and its clones are one backend.
///
/// Where a stack wants other types, tower's `map_request`, `map_response` and `map_err` fit it in.
#[derive(Clone)]
pub struct BackendService {
    pub(crate) shared: Arc<Shared>,
    pub(crate) number: usize,
}

/// What a backend answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// The number of the attempt, from 0 on in the order in which they came to the backend.
    pub number: u64,
    /// How long the call waited for a worker.
    pub queued: Duration,
    /// How long a worker took.
    pub served: Duration,
}

/// The future of a call to a backend. Dropped, its caller has left: what that means says
/// [`WhenCallerLeaves`](crate::WhenCallerLeaves).
#[must_use = "futures do nothing unless polled"]
pub struct Answering {
    backend: BackendService,
    place: Place,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Refused(BackendError),
    In(usize),
    Ended,
}

impl<R> Service<R> for BackendService {
    type Response = Answer;
    type Error = BackendError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BackendError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Answering {
        let place = self.shared.with(|state| {
            let (server, mut around) = state.backend(self.number);
            match server.offer(&mut around) {
                Ok(slot) => Place::In(slot),
                Err(error) => Place::Refused(error),
            }
        });
        Answering { backend: self.clone(), place }
    }
}

impl Future for Answering {
    type Output = Result<Answer, BackendError>;

    /// # Panics
    /// Where it is polled after it has ended.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = match self.place {
            Place::Refused(error) => Poll::Ready(Err(error)),
            Place::In(slot) => {
                let BackendService { shared, number } = &self.backend;
                shared.with(|state| state.backend(*number).0.ask(slot, cx.waker()))
            }
            Place::Ended => panic!("polled after it has ended"),
        };
        if outcome.is_ready() {
            self.place = Place::Ended;
        }
        outcome
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if let Place::In(slot) = self.place {
            self.backend.shared.with(|state| {
                let (server, mut around) = state.backend(self.backend.number);
                server.leave(slot, &mut around);
            });
        }
    }
}

impl fmt::Debug for BackendService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendService").field("number", &self.number).finish_non_exhaustive()
    }
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").field("backend", &self.backend).field("place", &self.place).finish()
    }
}
