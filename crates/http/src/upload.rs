use std::{
    io::IoSlice,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use hyper::body::{Buf, Bytes};
use pin_project_lite::pin_project;
use tokio::time::Instant;

use crate::sync::{Acquire, AtomicU64, OnceLock, Relaxed, Release};

pin_project! {
    /// A request's body as hyper reads it, noting for [`first_byte_timeout`](crate::Builder::first_byte_timeout) whether
    /// it is the server that is waited for.
    #[derive(Debug)]
    pub(crate) struct Upload<B> {
        #[pin]
        body: B,
        // Boxed: few bodies are watched, and hyper moves all of them about.
        watch: Option<Box<Watch>>,
    }
}

#[derive(Debug)]
struct Watch {
    progress: Arc<Progress>,
    /// What is left of a large piece.
    left: Bytes,
}

/// hyper takes a piece as a whole, however long the server then needs for it. So a watched body is handed over in pieces
/// no larger than that.
const LARGEST: usize = 64 * 1024;

/// A piece of the body, or a part of one.
#[derive(Debug)]
pub(crate) enum Piece<D> {
    Whole(D),
    Part(Bytes),
}

impl<D: Buf> Buf for Piece<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::Whole(data) => data.remaining(),
            Self::Part(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Whole(data) => data.chunk(),
            Self::Part(data) => data.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Whole(data) => data.chunks_vectored(into),
            Self::Part(data) => data.chunks_vectored(into),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Whole(data) => data.advance(count),
            Self::Part(data) => data.advance(count),
        }
    }

    // Without a copy, where the data is `Bytes` already.
    fn copy_to_bytes(&mut self, len: usize) -> Bytes {
        match self {
            Self::Whole(data) => data.copy_to_bytes(len),
            Self::Part(data) => data.copy_to_bytes(len),
        }
    }
}

/// How an upload stands.
#[derive(Debug)]
pub(crate) struct Progress {
    began: OnceLock<Instant>,
    /// Nanoseconds from `began` to when the last piece was taken, or [`OURS`].
    taken: AtomicU64,
}

/// Instead of a time: [`Turn::Ours`].
const OURS: u64 = u64::MAX;

impl Progress {
    pub(crate) fn new() -> Self {
        Self { began: OnceLock::new(), taken: AtomicU64::new(0) }
    }

    pub(crate) fn note(&self, now: Instant) {
        let since = now.saturating_duration_since(*self.began.get_or_init(|| now));
        // Whoever reads this knows when it began.
        self.taken.store(u64::try_from(since.as_nanos()).unwrap_or(OURS - 1).min(OURS - 1), Release);
    }

    pub(crate) fn turn(&self) -> Turn {
        match self.read() {
            (OURS, _) => Turn::Ours,
            (nanos, began) => Turn::Servers(began.map(|began| began + Duration::from_nanos(nanos))),
        }
    }

    pub(crate) fn read(&self) -> (u64, Option<Instant>) {
        let taken = self.taken.load(Acquire);
        (taken, self.began.get().copied())
    }
}

/// Who is waited for.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The request's own body has not got its next piece.
    Ours,
    /// The server, to take more or to answer; and when the last piece was taken, if any was.
    Servers(Option<Instant>),
}

impl<B: Body> Upload<B> {
    fn left(&self) -> u64 {
        self.watch.as_ref().map_or(0, |watch| watch.left.len() as u64)
    }

    /// A body that nobody watches costs nothing.
    pub(crate) fn unwatched(body: B) -> Self {
        Self { body, watch: None }
    }

    /// Nothing is to be watched where there is no body.
    pub(crate) fn watched(body: B) -> (Self, Option<Arc<Progress>>) {
        let progress = (!body.is_end_stream()).then(|| Arc::new(Progress::new()));
        let watch = |progress| Box::new(Watch { progress, left: Bytes::new() });
        (Self { body, watch: progress.clone().map(watch) }, progress)
    }
}

impl<B: Body> Body for Upload<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        let whole = |frame: Frame<B::Data>| frame.map_data(Piece::Whole);
        let Some(watch) = this.watch else { return this.body.poll_frame(cx).map_ok(whole) };
        let Watch { progress, left } = &mut **watch;
        if left.is_empty() {
            let Poll::Ready(frame) = this.body.poll_frame(cx) else {
                progress.taken.store(OURS, Relaxed);
                return Poll::Pending;
            };
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(mut data))) if data.remaining() > LARGEST => {
                    *left = data.copy_to_bytes(data.remaining());
                }
                other => {
                    progress.note(Instant::now());
                    let frame = other.map(|frame| {
                        frame.map(|data| data.map_or_else(whole, |data| whole(Frame::data(data))))
                    });
                    return Poll::Ready(frame);
                }
            }
        }
        progress.note(Instant::now());
        let part = left.split_to(left.len().min(LARGEST));
        Poll::Ready(Some(Ok(Frame::data(Piece::Part(part)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0 && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let left = self.left();
        if left > 0 {
            let upper = hint.upper().and_then(|upper| upper.checked_add(left));
            let lower = hint.lower().saturating_add(left);
            hint = SizeHint::new();
            hint.set_lower(lower);
            if let Some(upper) = upper {
                hint.set_upper(upper);
            }
        }
        hint
    }
}
