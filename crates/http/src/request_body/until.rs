//! A streamed body that does not outlive its call by much.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{BoxError, Deadline};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Body;

/// So that the call itself is the first to notice, and says it in its own words.
const GRACE: Duration = Duration::from_secs(1);

/// A server may answer before it was sent everything. hyper then goes on with the request, also when nobody waits for
/// anything any more, for as long as there is a stream and somebody to take it.
pub(super) struct Until {
    body: Body,
    at: Instant,
    /// Boxed, so that it is `Unpin`; made where it has to wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Until {
    pub(super) fn new(body: Body, deadline: Deadline) -> Self {
        Self { body, at: deadline.instant() + GRACE, timer: None }
    }
}

impl HttpBody for Until {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.at > Instant::now() {
            if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
                return Poll::Ready(frame);
            }
            let at = this.at;
            ready!(this.timer.get_or_insert_with(|| Box::pin(sleep_until(at))).as_mut().poll(cx));
        }
        Poll::Ready(Some(Err("the time of the call that sends it is up".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
