mod chain;
mod pieces;
mod source;
mod streamed;
#[cfg(feature = "api")]
mod until;

use std::{
    fmt,
    mem::take,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::BoxError;
use futures_util::Stream;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Bytes;

use self::{
    pieces::Pieces,
    source::{Erased, Frames},
    streamed::Streamed,
};

/// The body of a request: held in memory, or streamed.
///
/// A held body is copied for nothing, at any size. Of a streamed one, the first 64 KiB are kept while it is sent, if
/// there is a copy: a copy sends them again and then goes on with the rest from where the attempt before has stopped.
/// What is kept are clones of the stream's own `Bytes`, each of which counts at least 64 bytes; nothing is copied. It is
/// freed when no copy is left, and as soon as more has been sent than is kept. Then, and after the stream itself has
/// failed, no copy can be sent any more: [`can_replay`](Self::can_replay).
///
/// A streamed body is for one attempt at a time. An attempt that begins takes the stream over, and one before it that still
/// needs it fails. A body that is dropped half sent leaves the stream to its copies.
///
/// ```
/// use buttress_http::Body;
///
/// let held = Body::from(r#"{"quantity":1}"#);
/// assert!(held.try_clone().is_some());
/// assert_eq!(format!("{held:?}"), "Body { length: Some(14) }");
/// ```
#[derive(Default)]
pub struct Body(Kind);

enum Kind {
    Held(Bytes),
    Pieces(Pieces),
    Streamed(Streamed),
}

impl Default for Kind {
    fn default() -> Self {
        Self::Held(Bytes::new())
    }
}

impl Body {
    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// A body that is read as it is sent, with its length, where it has an exact one, and its trailers. One that gives less
    /// than that breaks off the request, and nothing beyond is sent.
    pub fn new<B>(body: B) -> Self
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Kind::Streamed(Streamed::new(Box::pin(Erased::new(body)))))
    }

    /// A stream of unknown length that is read as it is sent.
    ///
    /// An error of the stream breaks off the request: [`Error::Aborted`](crate::Error::Aborted).
    pub fn stream<S, T, E>(stream: S) -> Self
    where
        S: Stream<Item = Result<T, E>> + Send + 'static,
        T: Into<Bytes>,
        E: Into<BoxError>,
    {
        Self(Kind::Streamed(Streamed::new(Box::pin(Frames::new(stream, None)))))
    }

    /// A stream of a known number of bytes: they are announced to the server. A stream that gives less breaks off the
    /// request, too, and nothing beyond that length is sent.
    pub fn sized_stream<S, T, E>(length: u64, stream: S) -> Self
    where
        S: Stream<Item = Result<T, E>> + Send + 'static,
        T: Into<Bytes>,
        E: Into<BoxError>,
    {
        Self(Kind::Streamed(Streamed::new(Box::pin(Frames::new(stream, Some(length))))))
    }

    /// The same, broken off where it is streamed for longer than its call may take.
    #[cfg(feature = "api")]
    pub(crate) fn until_the_call_is_over(self) -> Self {
        if self.is_held() || self.is_end_stream() {
            return self;
        }
        match buttress_core::Deadline::current() {
            Some(deadline) => Self::new(until::Until::new(self, deadline)),
            None => self,
        }
    }

    /// Bodies one after the other, that were not sent yet. Held, where all of them are.
    pub(crate) fn chain(bodies: Vec<Self>) -> Self {
        if !bodies.iter().all(Self::is_held) {
            return Self::new(chain::Chain(bodies.into()));
        }
        let pieces = bodies.into_iter().flat_map(|body| match body.0 {
            Kind::Held(bytes) => vec![bytes],
            Kind::Pieces(mut pieces) => std::iter::from_fn(|| pieces.next()).collect(),
            Kind::Streamed(_) => unreachable!("all are held"),
        });
        Self(Kind::Pieces(Pieces::new(pieces)))
    }

    /// A copy that begins at the start, where there can be one. Of a held body of which a part was sent, it is the rest.
    ///
    /// `None` for a streamed body that has failed, or whose start was sent and not kept: it is too long, or there was no
    /// copy at that time.
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        match &self.0 {
            Kind::Held(bytes) => Some(Self(Kind::Held(bytes.clone()))),
            Kind::Pieces(pieces) => Some(Self(Kind::Pieces(pieces.clone()))),
            Kind::Streamed(streamed) => streamed.try_clone().map(|copy| Self(Kind::Streamed(copy))),
        }
    }

    /// Whether this copy can be sent whole by now, whatever became of the attempts before. One that is sent afterwards
    /// can fail nevertheless where another copy is sent at the same time.
    #[must_use]
    pub fn can_replay(&self) -> bool {
        match &self.0 {
            Kind::Held(_) | Kind::Pieces(_) => true,
            Kind::Streamed(streamed) => streamed.can_replay(),
        }
    }

    /// Whether it is held in memory, so that any number of copies can be sent at the same time.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self.0, Kind::Held(_) | Kind::Pieces(_))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self(Kind::Held(bytes.into()))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Kind::Held(bytes) if bytes.is_empty() => Poll::Ready(None),
            Kind::Held(bytes) => Poll::Ready(Some(Ok(Frame::data(take(bytes))))),
            Kind::Pieces(pieces) => Poll::Ready(pieces.next().map(|piece| Ok(Frame::data(piece)))),
            Kind::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Held(bytes) => bytes.is_empty(),
            Kind::Pieces(pieces) => pieces.left() == 0,
            Kind::Streamed(streamed) => streamed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Held(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Pieces(pieces) => SizeHint::with_exact(pieces.left()),
            Kind::Streamed(streamed) => streamed.size_hint(),
        }
    }
}

/// Its length, if it is known, and nothing of what it says.
impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("length", &self.size_hint().exact()).finish()
    }
}
