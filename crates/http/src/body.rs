use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Deadline, Decision, Origin, Reason};
use http::Response;
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    close::Counted,
    error::Error,
    limits::{Limits, poll_by},
    peer::Peer,
    unread::Unread,
};

/// The body of an answer, as it comes in.
///
/// Its error is the client's own [`Error`], so reading it under `?` needs no second error type. It keeps to the
/// [`Deadline`] that surrounds whoever reads it; one that is handed on out of the deadline's scope is not cut off.
///
/// Read to the end, its connection is used again. Dropped before, it resets its stream (HTTP/2). With HTTP/1.1 a task reads
/// on for at most 250 ms and 64 KiB, to save the connection; where that is not the end, or is known not to be, the
/// connection is closed.
pub struct ResponseBody {
    body: Unread,
    peer: Peer,
    origin: Origin,
    // Boxed: few answers have limits of their own, and all are moved about.
    reading: Option<Box<Reading>>,
    // Boxed, so that the body is `Unpin`, as its readers expect; and made only where it has to wait under a limit.
    timer: Option<Pin<Box<Sleep>>>,
}

/// How the reading of an answer with limits stands.
struct Reading {
    limits: Arc<Limits>,
    received: u64,
    /// Since when somebody has waited for the next piece; kept only under a limit for it.
    silent_since: Option<Instant>,
}

impl ResponseBody {
    pub(crate) fn of(
        response: Response<Incoming>,
        counted: Counted,
        peer: Peer,
        origin: Origin,
        limits: Option<Arc<Limits>>,
    ) -> Result<Response<Self>, Error> {
        if let Some(limit) = limits.as_ref().and_then(|limits| limits.body) {
            // As hyper understood it: an answer to `HEAD` announces a length that it does not have.
            if response.body().size_hint().exact().is_some_and(|length| length > limit) {
                return Err(too_large(origin, peer, limit));
            }
        }
        let version = response.version();
        let reading = limits.map(|limits| Box::new(Reading { limits, received: 0, silent_since: None }));
        Ok(response.map(|body| Self {
            body: Unread::new(body, version, counted),
            peer,
            origin,
            reading,
            timer: None,
        }))
    }

    /// Counts what has arrived.
    fn take(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Error> {
        let Some(reading) = &mut self.reading else { return Ok(frame) };
        reading.silent_since = None;
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        reading.received = reading.received.saturating_add(length);
        match reading.limits.body {
            Some(limit) if reading.received > limit => Err(too_large(self.origin, self.peer.clone(), limit)),
            _ => Ok(frame),
        }
    }

    /// The body has nothing yet: is ready when that has lasted too long.
    fn poll_limits(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let deadline = Deadline::current().map(Deadline::instant);
        let limit = self.reading.as_ref().and_then(|reading| reading.limits.read);
        let piece_due = self
            .reading
            .as_mut()
            .zip(limit)
            .map(|(reading, limit)| *reading.silent_since.get_or_insert_with(Instant::now) + limit);
        let at = match (deadline, piece_due) {
            (Some(deadline), Some(piece_due)) => deadline.min(piece_due),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => return Poll::Pending,
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        ready!(poll_by(timer.as_mut(), at, cx));
        Poll::Ready(match limit.filter(|_| deadline != Some(at)) {
            Some(limit) => {
                Decision::note(self.origin, "gave_up", || {
                    format!("no piece of the answer's body came for {limit:.1?}")
                });
                Error::ReadTimeout { peer: self.peer.clone(), limit }
            }
            None => {
                Decision::note(self.origin, "gave_up", || {
                    "the caller's deadline passed before the answer's end".into()
                });
                self.origin.reject(Reason::DeadlineExceeded).after_sending().into()
            }
        })
    }
}

#[cold]
fn too_large(origin: Origin, peer: Peer, limit: u64) -> Error {
    Decision::note(origin, "gave_up", || format!("the answer's body has more than {limit} bytes"));
    Error::BodyTooLarge { peer, limit }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| match frame {
                Ok(frame) => self.take(frame),
                Err(error) => Err(Error::Body { peer: self.peer.clone(), source: error.into() }),
            }));
        }
        self.poll_limits(cx).map(|error| Some(Err(error)))
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
