use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::{BoxError, Deadline, Origin, Rejected, Scope};
use bytes::Bytes;
use http::Uri;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    error::ApiError,
    sending::{expired, owned},
    stack::AnyBody,
};
use crate::{error::Error, peer::Peer};

/// The body of an answer, as it comes in, unpacked.
///
/// It keeps to the call's timeout, wherever it is read. Dropped unread, it closes its connection (HTTP/1.1) or resets its
/// stream (HTTP/2).
pub struct ApiBody {
    body: AnyBody,
    uri: Uri,
    deadline: Deadline,
    scope: Scope,
    origin: Origin,
    /// Whether the clock is to be looked at: a body that is always there would otherwise never end.
    begun: bool,
    /// Boxed, so that the body is `Unpin`; made where it has to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl ApiBody {
    pub(crate) fn new(body: AnyBody, uri: Uri, deadline: Deadline, scope: Scope, origin: Origin) -> Self {
        Self { body, uri, deadline, scope, origin, begun: false, timer: None }
    }

    /// The next piece; `None` after the last one. Dropped unfinished, it loses nothing.
    ///
    /// # Errors
    /// If the body breaks off or cannot be unpacked, or the call's time is up.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ApiError> {
        while let Some(frame) = self.frame().await {
            // Trailers are no part of it.
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) const fn origin(&self) -> Origin {
        self.origin
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer::of(&self.uri)
    }

    #[cold]
    fn failed(&self, error: BoxError) -> ApiError {
        let error = match ApiError::from(error) {
            ApiError::Stack(error) => match Rejected::in_error(&*error) {
                Some(rejected) => (*rejected).into(),
                None => Error::Body { peer: self.peer(), source: error }.into(),
            },
            error => error,
        };
        // The call was answered, whatever a layer's body says of itself.
        let error = match error {
            error if error.sent() => error,
            ApiError::Call(Error::Rejected(rejected)) => rejected.after_sending().into(),
            error => Error::Body { peer: self.peer(), source: error.into() }.into(),
        };
        owned(error, self.deadline, self.origin)
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.deadline.instant();
        self.timer.get_or_insert_with(|| Box::pin(sleep_until(at))).as_mut().poll(cx)
    }
}

impl Body for ApiBody {
    type Data = Bytes;
    type Error = ApiError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ApiError>>> {
        let this = &mut *self;
        if this.begun && this.deadline.instant() <= Instant::now() {
            return Poll::Ready(Some(Err(expired(this.deadline, this.origin).after_sending().into())));
        }
        this.begun = true;
        let body = Pin::new(&mut this.body);
        match this.scope.clone().enter(|| body.poll_frame(cx)) {
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.failed(error)))),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(this.poll_expired(cx));
                Poll::Ready(Some(Err(expired(this.deadline, this.origin).after_sending().into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl fmt::Debug for ApiBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiBody").field("peer", &self.peer()).finish_non_exhaustive()
    }
}
