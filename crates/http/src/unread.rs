//! What becomes of an answer that is dropped before its end.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use tokio::{runtime::Handle, time::timeout};

use crate::close::Counted;

/// So much of a rest is read, and for so long. A new connection costs some round trips, so it is worth no more.
const MOST: u64 = 64 * 1024;
const LONGEST: Duration = Duration::from_millis(250);

/// A body whose rest is read where it is dropped, if that is likely to be short.
///
/// An HTTP/1.1 connection can be used again only after the answer was read to its end. hyper itself looks once at what has
/// arrived already, which is enough where head and body came in one piece, and else closes the connection: the answer
/// to each refused attempt of a retry would cost one.
pub(crate) struct Unread {
    /// `None` after its end.
    body: Option<Incoming>,
    /// Ended with the body, also where that is read here.
    counted: Counted,
    /// A stream of HTTP/2 is reset, and the connection stays as it is.
    keeps_connection: bool,
}

impl Unread {
    pub(crate) fn new(body: Incoming, version: Version, mut counted: Counted) -> Self {
        if body.is_end_stream() {
            counted.end();
        }
        Self { body: Some(body), counted, keeps_connection: version != Version::HTTP_11 }
    }
}

impl Body for Unread {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        // What has a length is at its end when that has come, and others say so only by this.
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        if polled.is_ready() && self.is_end_stream() {
            self.counted.end();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        if self.keeps_connection || self.is_end_stream() || self.size_hint().lower() > MOST {
            return;
        }
        if let (Some(body), Ok(runtime)) = (self.body.take(), Handle::try_current()) {
            // The timer is made inside: a runtime without one must not panic in whoever drops this.
            let counted = std::mem::take(&mut self.counted);
            runtime.spawn(async move {
                let _ = timeout(LONGEST, read(body)).await;
                drop(counted);
            });
        }
    }
}

/// Until the end, an error, or more than is worth it.
async fn read(body: Incoming) {
    let mut body = pin!(body);
    let mut left = MOST;
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        let Some(rest) = left.checked_sub(length) else { return };
        left = rest;
    }
}
