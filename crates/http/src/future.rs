use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Deadline, Origin, Reason};
use http::Response;
use hyper_util::client::legacy;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};

use crate::{body::ResponseBody, connecting, error::Error, peer::Peer};

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
            // Made when the call first has to wait, so that a lazy deadline begins to run no earlier.
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
        Self { state: State::Calling { call, peer, origin, deadline: None } }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    /// # Panics
    /// When it is polled again after a refusal.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (call, peer, origin, mut deadline) = match self.project().state.project() {
            StateProj::Refused { error } => {
                return Poll::Ready(Err(error.take().expect("polled after it was ready")));
            }
            StateProj::Calling { call, peer, origin, deadline } => (call, peer, origin, deadline),
        };
        let (polled, connecting_since) = connecting::watch(|| call.poll(cx));
        if let Poll::Ready(result) = polled {
            return Poll::Ready(match result {
                Ok(response) => Ok(response.map(|body| ResponseBody::new(body, peer.clone(), *origin))),
                Err(error) => Err(Error::from_legacy(error, peer.clone())),
            });
        }
        // Asked for at every wait: the call can have been moved under another deadline, or out of one.
        match (deadline.as_mut().as_pin_mut(), Deadline::current().map(Deadline::instant)) {
            (Some(timer), Some(at)) if timer.deadline() == at => {}
            (Some(timer), Some(at)) => timer.reset(at),
            (_, at) => deadline.set(at.map(sleep_until)),
        }
        let Some(mut deadline) = deadline.as_pin_mut() else { return Poll::Pending };
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(match connecting_since {
            None => origin.reject(Reason::DeadlineExceeded).after_sending().into(),
            Some(since) if since < deadline.deadline() => {
                Error::ConnectTimeout { peer: peer.clone(), limit: deadline.deadline() - since }
            }
            // It had passed before anything was begun.
            Some(_) => origin.reject(Reason::DeadlineExceeded).into(),
        }))
    }
}
