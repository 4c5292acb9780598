use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::BoxError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::{error::BodyError, growing::Reader};

pin_project! {
    /// The body of a response of [`HttpCached`](crate::HttpCached): the service's own, or what is stored, or what is being
    /// stored while it is read.
    ///
    /// Dropped before its end, it is not stored, unless somebody else reads it too.
    pub struct ResponseBody<B> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = Project]
    enum Kind<B> {
        // Not stored.
        Passing { #[pin] body: B },
        // On its way into the store. Its length, where it was announced.
        Growing { reader: Reader, announced: Option<u64> },
        Whole { bytes: Option<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(crate) const fn passing(body: B) -> Self {
        Self { kind: Kind::Passing { body } }
    }

    pub(crate) const fn growing(reader: Reader, announced: Option<u64>) -> Self {
        Self { kind: Kind::Growing { reader, announced } }
    }

    /// Whether it is the service's own, and not stored.
    pub(crate) const fn is_passing(&self) -> bool {
        matches!(self.kind, Kind::Passing { .. })
    }

    pub(crate) fn whole(bytes: Bytes) -> Self {
        Self { kind: Kind::Whole { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.project().kind.project() {
            Project::Passing { body } => {
                body.poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::of)))
            }
            Project::Growing { reader, .. } => reader.poll_frame(cx),
            Project::Whole { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passing { body } => body.is_end_stream(),
            Kind::Growing { reader, .. } => reader.is_done(),
            Kind::Whole { bytes } => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passing { body } => body.size_hint(),
            Kind::Growing { reader, announced: Some(announced) } => {
                SizeHint::with_exact(reader.remaining(*announced))
            }
            Kind::Growing { .. } => SizeHint::default(),
            Kind::Whole { bytes } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}

impl<B> Default for ResponseBody<B> {
    /// An empty one.
    fn default() -> Self {
        Self::whole(Bytes::new())
    }
}

impl<B> From<String> for ResponseBody<B> {
    fn from(text: String) -> Self {
        Self::whole(text.into())
    }
}

impl<B> From<Bytes> for ResponseBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::whole(bytes)
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
