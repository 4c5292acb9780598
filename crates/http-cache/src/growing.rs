use std::{
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};

use crate::{
    error::BodyError,
    sync::{Mutex, MutexGuard, lock},
};

/// The body of a response on its way, for everybody who wants it: each part is there for all readers when it arrives.
///
/// ```text
///            the last part                  (length as announced)
///   Open ------------------------> Whole ------------------------> kept
///    |
///    |  an error, a panic, another length than announced, the last reader left
///    +-----------------------------------------------------------> Cut: not kept
/// ```
///
/// Whichever reader is polled first fetches the next part, and all are woken when there is one: a reader who stops
/// reading, or goes, keeps nobody waiting.
pub(crate) struct Growing {
    state: Mutex<State>,
}

type Source = Pin<Box<dyn Body<Data = Bytes, Error = BodyError> + Send>>;

struct State {
    /// Away while a reader polls it.
    source: Option<Source>,
    /// Another reader came while it was away.
    missed: bool,
    chunks: Vec<Bytes>,
    /// In bytes, of `chunks`.
    length: u64,
    trailers: Option<HeaderMap>,
    end: End,
    /// How much is kept at most, or exactly where the length was announced.
    limit: Limit,
    readers: Vec<Slot>,
    numbers: u64,
    /// Too long to be kept: read by its only reader, part by part.
    passing: bool,
    keep: Option<Keep>,
}

/// A reader's number, and whom to wake for it.
struct Slot(u64, Option<Waker>);

enum End {
    Open,
    Whole,
    Cut(BodyError),
}

/// How long the body may be that is kept, in bytes.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// As long as announced.
    Exactly(u64),
    /// There is one reader alone.
    AtMost(u64),
}

/// How it ended.
pub(crate) enum Done {
    Whole(Bytes),
    TooLong,
    Cut,
}

/// What is done then. It is not called under a lock.
pub(crate) type Keep = Box<dyn FnOnce(Done) + Send>;

impl Growing {
    /// With its first reader. Nothing is read before that one is polled.
    pub(crate) fn new(source: Source, limit: Limit) -> (Arc<Self>, Reader) {
        let growing = Arc::new(Self {
            state: Mutex::new(State {
                source: Some(source),
                missed: false,
                chunks: Vec::new(),
                length: 0,
                trailers: None,
                end: End::Open,
                limit,
                readers: vec![Slot(0, None)],
                numbers: 1,
                passing: false,
                keep: None,
            }),
        });
        let reader = Reader { growing: growing.clone(), number: 0, next: 0, done: false };
        (growing, reader)
    }

    /// What is to be done in the end: to be said before the first reader is polled.
    pub(crate) fn when_done(&self, keep: Keep) {
        self.lock().keep = Some(keep);
    }

    /// Whether it can be read: it was not cut, nor left by all.
    pub(crate) fn is_readable(&self) -> bool {
        self.lock().is_readable()
    }

    /// One more reader, from the beginning, if it can be read.
    pub(crate) fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if !state.is_readable() {
            return None;
        }
        let number = state.numbers;
        state.numbers += 1;
        state.readers.push(Slot(number, None));
        drop(state);
        Some(Reader { growing: self.clone(), number, next: 0, done: false })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn wake_all(&self) {
        let wakers: Vec<_> = self.lock().readers.iter_mut().filter_map(|slot| slot.1.take()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A part, and the source that it came from: both at once, else another reader could have the next part first.
    fn arrived(&self, frame: Frame<Bytes>, source: Option<Source>) {
        let mut state = self.lock();
        state.source = source;
        state.missed = false;
        let mut too_long = None;
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                state.length = state.length.saturating_add(data.len() as u64);
                match state.limit {
                    Limit::Exactly(announced) if state.length > announced => {
                        drop(state);
                        return self.end(End::Cut(BodyError::too_long()));
                    }
                    Limit::AtMost(most) if state.length > most && !state.passing => {
                        state.passing = true;
                        too_long = state.keep.take();
                    }
                    _ => {}
                }
                state.chunks.push(data);
            }
            Err(frame) => state.trailers = frame.into_trailers().ok(),
        }
        drop(state);
        if let Some(keep) = too_long {
            keep(Done::TooLong);
        }
        self.wake_all();
    }

    /// Ends it, wakes all, and does what is to be done.
    fn end(&self, end: End) {
        let mut state = self.lock();
        if !matches!(state.end, End::Open) {
            return;
        }
        let right = match state.limit {
            Limit::Exactly(announced) => state.length == announced,
            Limit::AtMost(_) => !state.passing,
        };
        let whole = matches!(end, End::Whole) && right;
        let keep = state.keep.take();
        let done = if whole && keep.is_some() { Done::Whole(joined(&state.chunks)) } else { Done::Cut };
        state.end = end;
        let source = state.source.take();
        drop(state);
        drop(source);
        if let Some(keep) = keep {
            keep(done);
        }
        self.wake_all();
    }
}

impl State {
    fn is_readable(&self) -> bool {
        match self.end {
            End::Open => !self.readers.is_empty(),
            End::Whole => true,
            End::Cut(_) => false,
        }
    }
}

/// In memory of their own: a part may be a piece of a larger buffer, which would stay as long as it does.
fn joined(chunks: &[Bytes]) -> Bytes {
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    chunks.iter().for_each(|chunk| whole.extend_from_slice(chunk));
    whole.freeze()
}

impl Wake for Growing {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}

/// Who reads a [`Growing`] body. When the last one goes before the end, the body is cut.
pub(crate) struct Reader {
    growing: Arc<Growing>,
    number: u64,
    next: usize,
    done: bool,
}

impl Reader {
    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let mut state = self.growing.lock();
            if let Some(chunk) = state.chunks.get(self.next).cloned() {
                self.next += 1;
                if state.passing {
                    // This is the only reader: nobody needs the parts that it has had.
                    state.chunks.drain(..self.next);
                    self.next = 0;
                }
                return Poll::Ready(Some(Ok(Frame::data(chunk))));
            }
            match &state.end {
                _ if self.done => return Poll::Ready(None),
                End::Open => {}
                End::Whole => {
                    self.done = true;
                    return Poll::Ready(state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))));
                }
                End::Cut(error) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(error.clone())));
                }
            }
            let mine = state.readers.iter_mut().find(|slot| slot.0 == self.number);
            let Slot(_, waker) = mine.expect("a reader has its slot until it is dropped");
            match waker {
                Some(waker) => waker.clone_from(cx.waker()),
                None => *waker = Some(cx.waker().clone()),
            }
            let Some(source) = state.source.take() else {
                // Another reader polls it at this moment, and will wake this one.
                state.missed = true;
                return Poll::Pending;
            };
            drop(state);
            if self.fetch(source).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Polls the source once. Ready: there is something new to be looked at.
    fn fetch(&self, source: Source) -> Poll<()> {
        let mut held = Held { growing: &self.growing, source: Some(source), returned: false };
        let waker = Waker::from(self.growing.clone());
        let source = held.source.as_mut().expect("it was just put there");
        let polled = source.as_mut().poll_frame(&mut Context::from_waker(&waker));
        held.returned = true;
        let Poll::Ready(frame) = polled else {
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
                // Who passes a body on may stop reading when it has the announced length, and never see its end.
                let is_last = source.is_end_stream();
                let source = held.source.take().filter(|_| !is_last);
                self.growing.arrived(frame, source);
                if is_last {
                    self.growing.end(End::Whole);
                }
            }
            last => {
                held.source = None;
                self.growing.end(last.and_then(Result::err).map_or(End::Whole, End::Cut));
            }
        }
        Poll::Ready(())
    }

    /// Whether it has had everything.
    pub(crate) fn is_done(&self) -> bool {
        let state = self.growing.lock();
        let is_whole = matches!(state.end, End::Whole) && state.trailers.is_none();
        self.done || is_whole && self.next == state.chunks.len()
    }

    /// How much is still to come, where it was announced.
    pub(crate) fn remaining(&self, announced: u64) -> u64 {
        let state = self.growing.lock();
        let read: usize = state.chunks.iter().take(self.next).map(Bytes::len).sum();
        announced.saturating_sub(read as u64)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.growing.lock();
        let left = state.readers.iter().position(|slot| slot.0 == self.number);
        let _slot = left.map(|index| state.readers.swap_remove(index));
        let alone = state.readers.is_empty() && matches!(state.end, End::Open);
        let source = if alone { state.source.take() } else { None };
        let is_whole = matches!(state.limit, Limit::Exactly(announced) if state.length == announced);
        drop(state);
        drop(source);
        if alone {
            self.growing.end(if is_whole { End::Whole } else { End::Cut(BodyError::abandoned()) });
        } else {
            // It may have been the one who was to fetch the next part.
            self.growing.wake_all();
        }
    }
}

/// The source, while it is polled.
struct Held<'a> {
    growing: &'a Growing,
    source: Option<Source>,
    /// Else it panicked.
    returned: bool,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Some(source) = self.source.take() else { return };
        if !self.returned {
            drop(source);
            self.growing.end(End::Cut(BodyError::panicked()));
            return;
        }
        let mut state = self.growing.lock();
        if !matches!(state.end, End::Open) {
            // Cut meanwhile.
            drop(state);
            return;
        }
        state.source = Some(source);
        let missed = mem::take(&mut state.missed);
        drop(state);
        if missed {
            self.growing.wake_all();
        }
    }
}

impl fmt::Debug for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growing").finish_non_exhaustive()
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models;
