use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{Deadline, Origin, Reason};
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio::time::{Sleep, sleep_until};

use crate::{error::Error, peer::Peer};

/// The body of an answer, as it comes in.
///
/// Its error is the client's own [`Error`], so reading it under `?` needs no second error type. It keeps to the
/// [`Deadline`] that surrounds whoever reads it; one that is handed on out of the deadline's scope is not cut off.
///
/// Dropped unread, it closes its connection (HTTP/1.1) or resets its stream (HTTP/2). Read to the end, the connection
/// is used again.
pub struct ResponseBody {
    body: Incoming,
    peer: Peer,
    origin: Origin,
    // Boxed, so that the body is `Unpin`, as its readers expect; and made only where it has to wait under a deadline.
    deadline: Option<(Deadline, Pin<Box<Sleep>>)>,
}

impl ResponseBody {
    pub(crate) fn new(body: Incoming, peer: Peer, origin: Origin) -> Self {
        Self { body, peer, origin, deadline: None }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(now) = Deadline::current() else {
            self.deadline = None;
            return Poll::Pending;
        };
        let (set, sleep) = self.deadline.get_or_insert_with(|| (now, Box::pin(sleep_until(now.instant()))));
        if *set != now {
            *set = now;
            sleep.as_mut().reset(now.instant());
        }
        sleep.as_mut().poll(cx)
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| {
                frame.map_err(|error| Error::Body { peer: self.peer.clone(), source: error.into() })
            }));
        }
        ready!(self.poll_deadline(cx));
        Poll::Ready(Some(Err(self.origin.reject(Reason::DeadlineExceeded).after_sending().into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("peer", &self.peer).finish_non_exhaustive()
    }
}
