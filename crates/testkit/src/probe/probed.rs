//! The service that probes put inside a layer.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tower_service::Service;

use super::{Backend, BoxError, PanicAt, ScriptedFailure};

/// A service that replies with its request and reports everything to its [`Backend`].
///
/// Being polled ready reserves a place there; the place is taken by the call, and given back when the
/// service is dropped instead. A clone has no place. `E` is the error type, which only has to hold a
/// [`ScriptedFailure`].
pub struct Probed<E = BoxError> {
    backend: Backend,
    reserved: bool,
    waited: usize,
    _error: PhantomData<fn() -> E>,
}

impl<E> Probed<E> {
    pub(super) fn new(backend: Backend) -> Self {
        Self { backend, reserved: false, waited: 0, _error: PhantomData }
    }

    /// Gives the place back, if it has one.
    fn take_reservation(&mut self) -> bool {
        self.waited = 0;
        let reserved = std::mem::take(&mut self.reserved);
        self.backend.lock().seen.reservations -= usize::from(reserved);
        reserved
    }
}

impl<E> Clone for Probed<E> {
    fn clone(&self) -> Self {
        Self::new(self.backend.clone())
    }
}

impl<E> Drop for Probed<E> {
    fn drop(&mut self) {
        self.take_reservation();
    }
}

impl<E> fmt::Debug for Probed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probed").field("reserved", &self.reserved).finish_non_exhaustive()
    }
}

impl<E: From<ScriptedFailure>> Service<u32> for Probed<E> {
    type Response = u32;
    type Error = E;
    type Future = ProbedFuture<E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        if self.reserved {
            return Poll::Ready(Ok(()));
        }
        let mut state = self.backend.lock();
        if self.waited < state.script.ready_after {
            self.waited += 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        state.seen.reservations += 1;
        drop(state);
        self.reserved = true;
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> ProbedFuture<E> {
        let reserved = self.take_reservation();
        let mut state = self.backend.lock();
        state.seen.calls += 1;
        state.seen.unready_calls += usize::from(!reserved);
        let panics = state.script.panic.take();
        if panics == Some(PanicAt::Call) {
            drop(state);
            panic!("{SCRIPTED_PANIC}");
        }
        state.seen.in_flight += 1;
        let fails = state.script.failures > 0;
        state.script.failures -= usize::from(fails);
        ProbedFuture {
            reply: if fails { Err(ScriptedFailure) } else { Ok(request) },
            polls_left: state.script.reply_after,
            panics: panics.is_some(),
            completed: false,
            backend: self.backend.clone(),
            _error: PhantomData,
        }
    }
}

pub(super) const SCRIPTED_PANIC: &str = "scripted panic";

/// The future of [`Probed`].
pub struct ProbedFuture<E = BoxError> {
    backend: Backend,
    reply: Result<u32, ScriptedFailure>,
    polls_left: usize,
    panics: bool,
    completed: bool,
    _error: PhantomData<fn() -> E>,
}

impl<E> ProbedFuture<E> {
    fn poll_scripted(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.polls_left > 0 {
            self.polls_left -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut state = self.backend.lock();
        if state.script.held {
            state.waiting.push(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

impl<E: From<ScriptedFailure>> Future for ProbedFuture<E> {
    type Output = Result<u32, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        assert!(!self.completed, "polled after its completion");
        ready!(self.poll_scripted(cx));
        if self.panics {
            panic!("{SCRIPTED_PANIC}");
        }
        self.completed = true;
        {
            let mut state = self.backend.lock();
            state.seen.in_flight -= 1;
            state.seen.completed += 1;
        }
        Poll::Ready(self.reply.map_err(E::from))
    }
}

impl<E> Drop for ProbedFuture<E> {
    fn drop(&mut self) {
        if !self.completed {
            let mut state = self.backend.lock();
            state.seen.in_flight -= 1;
            state.seen.abandoned += 1;
        }
    }
}

impl<E> fmt::Debug for ProbedFuture<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbedFuture").field("polls_left", &self.polls_left).finish_non_exhaustive()
    }
}
