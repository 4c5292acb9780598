//! A source of pieces, and what a body makes of them.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::VecDeque,
    pin::{Pin, pin},
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
};

use buttress_core::BoxError;
use buttress_http::Body;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};

pub(crate) const KEPT: usize = 64 * 1024;

/// A piece of a body, as a test compares it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
    Error,
}

impl Piece {
    pub(crate) fn cost(&self) -> usize {
        if let Self::Data(data) = self { data.len().max(64) } else { 7 + 6 + 64 }
    }

    pub(crate) fn bytes(&self) -> usize {
        if let Self::Data(data) = self { data.len() } else { 0 }
    }
}

pub(crate) fn trailers() -> Piece {
    Piece::Trailers(HeaderMap::from_iter([(
        http::HeaderName::from_static("x-total"),
        HeaderValue::from_static("twelve"),
    )]))
}

/// Gives its pieces, each after a `Pending` where it is `slow`.
pub(crate) struct Pieces {
    rest: VecDeque<Piece>,
    slow: bool,
    waited: bool,
    _alive: Arc<()>,
}

pub(crate) fn pieces(pieces: impl IntoIterator<Item = Piece>, slow: bool) -> (Body, Weak<()>) {
    let alive = Arc::new(());
    let weak = Arc::downgrade(&alive);
    (Body::new(Pieces { rest: pieces.into_iter().collect(), slow, waited: false, _alive: alive }), weak)
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.waited = self.slow && !self.waited;
        if self.waited {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.rest.pop_front().map(|piece| match piece {
            Piece::Data(data) => Ok(Frame::data(data)),
            Piece::Trailers(trailers) => Ok(Frame::trailers(trailers)),
            Piece::Error => Err("the disk is gone".into()),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.iter().map(|piece| piece.bytes() as u64).sum())
    }
}

pub(crate) fn poll_once(body: &mut Body) -> Poll<Option<Result<Piece, String>>> {
    let mut cx = Context::from_waker(Waker::noop());
    pin!(body).poll_frame(&mut cx).map(|frame| {
        frame.map(|frame| match frame.map_err(|error| error.to_string())?.into_data() {
            Ok(data) => Ok(Piece::Data(data)),
            Err(frame) => Ok(Piece::Trailers(frame.into_trailers().unwrap())),
        })
    })
}

pub(crate) fn next(body: &mut Body) -> Option<Result<Piece, String>> {
    for _ in 0..3 {
        if let Poll::Ready(piece) = poll_once(body) {
            return piece;
        }
    }
    panic!("the source is ready at every second poll");
}

pub(crate) fn rest(body: &mut Body) -> Result<Vec<Piece>, String> {
    std::iter::from_fn(|| next(body)).collect()
}

pub(crate) fn data(length: usize, fill: u8) -> Piece {
    Piece::Data(vec![fill; length].into())
}
