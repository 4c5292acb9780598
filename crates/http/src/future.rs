use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Deadline, Decision, Origin, Reason};
use http::Response;
use hyper_util::client::legacy;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::{
    body::ResponseBody,
    close::Held,
    connecting::{self, Left, Waits},
    error::Error,
    limits::{Limits, poll_by},
    peer::Peer,
    waiting::Waiting,
};

pin_project! {
    /// The future of a call: made by [`HttpClient`](crate::HttpClient).
    ///
    /// Dropped unfinished, it gives up its request. What was written stays written; the connection is closed with
    /// HTTP/1.1, and its stream is reset with HTTP/2. One that was still being opened is finished and pooled where
    /// another call waits for it.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State {
        Refused { error: Option<Error> },
        Calling {
            // Before the call, which until then has its connection to itself.
            held: Held,
            #[pin]
            call: legacy::ResponseFuture,
            peer: Peer,
            origin: Origin,
            limits: Option<Arc<Limits>>,
            // Boxed: few calls have it, and all would carry it.
            waiting: Option<Box<Waiting>>,
            // Made when the call first has to wait, so that a lazy deadline begins to run no earlier.
            #[pin]
            timer: Option<Sleep>,
        },
    }
}

impl ResponseFuture {
    pub(crate) fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    pub(crate) fn calling(
        call: legacy::ResponseFuture,
        peer: Peer,
        origin: Origin,
        held: Held,
        limits: Option<Arc<Limits>>,
        waiting: Option<Box<Waiting>>,
    ) -> Self {
        Self { state: State::Calling { call, peer, origin, held, limits, waiting, timer: None } }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    /// # Panics
    /// When it is polled again after a refusal.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (call, peer, origin, held, limits, waiting, mut timer) = match self.project().state.project() {
            StateProj::Refused { error } => {
                return Poll::Ready(Err(error.take().expect("polled after it was ready")));
            }
            StateProj::Calling { call, peer, origin, held, limits, waiting, timer } => {
                (call, peer, origin, held, limits, waiting, timer)
            }
        };
        let mut left = Left::default();
        let polled = connecting::watch(&mut left, || call.poll(cx));
        let Left { waits, claim } = left;
        if claim.is_some() {
            held.claim = claim;
        }
        if let Poll::Ready(result) = polled {
            let peer = std::mem::take(peer);
            return Poll::Ready(match result {
                Ok(mut response) => {
                    let counted = held.answered(response.extensions_mut());
                    ResponseBody::of(response, counted, peer, *origin, limits.take())
                }
                Err(error) => {
                    held.end();
                    Err(Error::from_legacy(error, peer))
                }
            });
        }
        held.may_be_sent();
        // Asked for at every wait: the call can have been moved under another deadline, or out of one.
        let deadline = Deadline::current().map(Deadline::instant);
        let head_due = waiting.as_mut().and_then(|waiting| waiting.due(waits.is_some()));
        let at = match (deadline, head_due) {
            (Some(deadline), Some(head_due)) => deadline.min(head_due),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return Poll::Pending,
        };
        if timer.is_none() {
            timer.set(Some(sleep_until(at)));
        }
        let Some(timer) = timer.as_pin_mut() else { return Poll::Pending };
        ready!(poll_by(timer, at, cx));
        if let Some(waiting) = waiting.as_ref().filter(|_| deadline != Some(at)) {
            Decision::note(*origin, "gave_up", || {
                format!("the server was silent for {:.1?} after the request", waiting.limit)
            });
            return Poll::Ready(Err(Error::FirstByteTimeout { peer: peer.clone(), limit: waiting.limit }));
        }
        Decision::note(*origin, "gave_up", || late(waits));
        Poll::Ready(Err(match waits {
            None => origin.reject(Reason::DeadlineExceeded).after_sending().into(),
            Some(Waits::Connection(since)) if since < at => {
                Error::ConnectTimeout { peer: peer.clone(), limit: at - since }
            }
            // It had passed before anything was begun, or the call had to wait for others.
            Some(_) => origin.reject(Reason::DeadlineExceeded).into(),
        }))
    }
}

#[cold]
fn late(waits: Option<Waits>) -> String {
    let before = match waits {
        None => "the answer came",
        Some(Waits::Connection(_)) => "there was a connection",
        Some(Waits::Place) => "a connection was allowed",
    };
    format!("the caller's deadline passed before {before}")
}
