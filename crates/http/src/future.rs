use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::{Deadline, Origin, Reason};
use http::Response;
use hyper_util::client::legacy;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::{body::ResponseBody, error::Error, peer::Peer};

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
            #[pin]
            call: legacy::ResponseFuture,
            peer: Peer,
            origin: Origin,
            // Asked for when the call first has to wait, so that a lazy deadline begins to run no earlier.
            waits: bool,
            #[pin]
            deadline: Option<Sleep>,
        },
    }
}

impl ResponseFuture {
    pub(crate) fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    pub(crate) fn calling(call: legacy::ResponseFuture, peer: Peer, origin: Origin) -> Self {
        Self { state: State::Calling { call, peer, origin, waits: false, deadline: None } }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    /// # Panics
    /// When it is polled again after a refusal.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (call, peer, origin, waits, mut deadline) = match self.project().state.project() {
            StateProj::Refused { error } => {
                return Poll::Ready(Err(error.take().expect("polled after it was ready")));
            }
            StateProj::Calling { call, peer, origin, waits, deadline } => {
                (call, peer, origin, waits, deadline)
            }
        };
        if let Poll::Ready(result) = call.poll(cx) {
            return Poll::Ready(match result {
                Ok(response) => Ok(response.map(|body| ResponseBody::new(body, peer.clone(), *origin))),
                Err(error) => Err(Error::from_legacy(error, peer.clone())),
            });
        }
        if !*waits {
            *waits = true;
            deadline.set(Deadline::current().map(|deadline| sleep_until(deadline.instant())));
        }
        match deadline.as_pin_mut().map(|sleep| sleep.poll(cx)) {
            Some(Poll::Ready(())) => {
                Poll::Ready(Err(origin.reject(Reason::DeadlineExceeded).after_sending().into()))
            }
            Some(Poll::Pending) | None => Poll::Pending,
        }
    }
}
