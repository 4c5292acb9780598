//! What a streamed body is read from, under one error type.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::BoxError;
use futures_util::Stream;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Bytes;
use pin_project_lite::pin_project;

/// What is left of a body whose length was announced. hyper would cut off what is more, and call it a success.
struct Left(Option<u64>);

impl Left {
    fn take(&mut self, data: &Bytes) -> Result<(), BoxError> {
        let Some(left) = &mut self.0 else { return Ok(()) };
        *left = left.checked_sub(data.len() as u64).ok_or("the body is longer than was announced")?;
        Ok(())
    }

    const fn is_some(&self) -> bool {
        matches!(self.0, Some(1..))
    }

    fn too_short() -> BoxError {
        "the body is shorter than was announced".into()
    }
}

pin_project! {
    pub(super) struct Erased<B> {
        #[pin]
        body: B,
        left: Left,
    }
}

impl<B: Body> Erased<B> {
    pub(super) fn new(body: B) -> Self {
        let left = Left(body.size_hint().exact());
        Self { body, left }
    }
}

impl<B> Body for Erased<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        Poll::Ready(match ready!(this.body.poll_frame(cx)) {
            Some(Ok(frame)) => match frame.data_ref().map_or(Ok(()), |data| this.left.take(data)) {
                Ok(()) => Some(Ok(frame)),
                Err(error) => Some(Err(error)),
            },
            Some(Err(error)) => Some(Err(error.into())),
            None => this.left.is_some().then(|| Err(Left::too_short())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && !self.left.is_some()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    pub(super) struct Frames<S> {
        #[pin]
        stream: S,
        left: Left,
    }
}

impl<S> Frames<S> {
    pub(super) const fn new(stream: S, length: Option<u64>) -> Self {
        Self { stream, left: Left(length) }
    }
}

impl<S, T, E> Body for Frames<S>
where
    S: Stream<Item = Result<T, E>>,
    T: Into<Bytes>,
    E: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        Poll::Ready(match ready!(this.stream.poll_next(cx)) {
            Some(Ok(data)) => {
                let data: Bytes = data.into();
                Some(this.left.take(&data).map(|()| Frame::data(data)))
            }
            Some(Err(error)) => Some(Err(error.into())),
            None => this.left.is_some().then(|| Err(Left::too_short())),
        })
    }

    fn size_hint(&self) -> SizeHint {
        self.left.0.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
