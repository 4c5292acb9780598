//! A body that is read as it is sent, and what is kept of it for another attempt.

use std::{
    collections::VecDeque,
    error::Error as StdError,
    fmt,
    mem::replace,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use buttress_core::BoxError;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Bytes;

/// How much of a streamed body is kept, in bytes.
const KEPT: usize = 64 * 1024;

/// What a kept piece counts at least: the room that a clone of a `Bytes` takes, whatever it shows of its buffer. It
/// bounds the pieces, too.
const PIECE: usize = 64;

pub(super) type Source = Pin<Box<dyn Body<Data = Bytes, Error = BoxError> + Send>>;

/// One copy of a streamed body. All copies share the source and what was kept of it.
///
/// The copy that was first polled last has the source. The ones before it belong to attempts that were given up, but
/// hyper drops their bodies on a task of its own, which can be later than the next attempt begins.
pub(super) struct Streamed {
    shared: Arc<Mutex<Shared>>,
    at: At,
}

/// How far a copy has come.
#[derive(Default)]
struct At {
    /// The number of its next piece.
    next: usize,
    /// The bytes of the pieces before.
    given: u64,
    /// Which of the copies that were polled it is; zero before that.
    turn: u64,
}

struct Shared {
    source: State,
    kept: VecDeque<Piece>,
    /// The number of the first piece that is kept. A copy that is not that far can go no further.
    first: usize,
    /// What is kept counts so much.
    cost: usize,
    /// The bytes that came out of the source.
    pulled: u64,
    turns: u64,
    /// Of the copy that waits for the source.
    waker: Option<Waker>,
}

enum State {
    Open(Source),
    Ended,
    Failed,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(Box<HeaderMap>),
}

impl Streamed {
    pub(super) fn new(source: Source) -> Self {
        Self::at_the_start(Arc::new(Mutex::new(Shared {
            source: State::of(source),
            kept: VecDeque::new(),
            first: 0,
            cost: 0,
            pulled: 0,
            turns: 0,
            waker: None,
        })))
    }

    fn at_the_start(shared: Arc<Mutex<Shared>>) -> Self {
        Self { shared, at: At::default() }
    }

    pub(super) fn try_clone(&self) -> Option<Self> {
        self.lock().has_its_start().then(|| Self::at_the_start(Arc::clone(&self.shared)))
    }

    pub(super) fn can_replay(&self) -> bool {
        self.at.next == 0 && self.lock().has_its_start()
    }

    /// A panic of the source leaves it failed, and nothing else half done.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copy that had the source waits for a wake that would come to this one.
    #[cold]
    fn begin(&mut self) {
        let overtaken = {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.turns += 1;
            self.at.turn = shared.turns;
            shared.waker.take()
        };
        if let Some(overtaken) = overtaken {
            overtaken.wake();
        }
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.at.turn == 0 {
            self.begin();
        }
        // Nobody else has it, so no copy can come any more: there is nothing to lock, and nothing to keep.
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            return shared.get_mut().unwrap_or_else(PoisonError::into_inner).poll(&mut self.at, true, cx);
        }
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).poll(&mut self.at, false, cx)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let shared = self.lock();
        matches!(shared.source, State::Ended) && self.at.next == shared.first + shared.kept.len()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let shared = self.lock();
        let rest = match &shared.source {
            State::Open(source) => source.size_hint(),
            State::Ended => SizeHint::with_exact(0),
            State::Failed => SizeHint::default(),
        };
        let kept = shared.pulled.saturating_sub(self.at.given);
        let mut hint = SizeHint::new();
        hint.set_lower(kept.saturating_add(rest.lower()));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(kept)) {
            hint.set_upper(upper);
        }
        hint
    }
}

impl State {
    fn of(source: Source) -> Self {
        if source.is_end_stream() { Self::Ended } else { Self::Open(source) }
    }
}

impl Shared {
    fn has_its_start(&self) -> bool {
        self.first == 0 && !matches!(self.source, State::Failed)
    }

    fn poll(
        &mut self,
        at: &mut At,
        alone: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if at.next < self.first {
            let why =
                if matches!(self.source, State::Failed) { Unsendable::Failed } else { Unsendable::TooLong };
            return Poll::Ready(Some(Err(why.into())));
        }
        if let Some(piece) = self.kept_piece(at.next, alone) {
            return Poll::Ready(Some(Ok(at.pass(piece))));
        }
        loop {
            // Failed while it is polled, so that it is after a panic.
            let mut source = match replace(&mut self.source, State::Failed) {
                State::Open(source) if at.turn == self.turns => source,
                State::Open(source) => {
                    self.source = State::Open(source);
                    return Poll::Ready(Some(Err(Unsendable::Overtaken.into())));
                }
                State::Ended => {
                    self.source = State::Ended;
                    return Poll::Ready(None);
                }
                State::Failed => return Poll::Ready(Some(Err(Unsendable::Failed.into()))),
            };
            let frame = match source.as_mut().poll_frame(cx) {
                Poll::Pending => {
                    self.source = State::Open(source);
                    if !alone && !self.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                        self.waker = Some(cx.waker().clone());
                    }
                    return Poll::Pending;
                }
                Poll::Ready(None) => {
                    self.source = State::Ended;
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    self.forget();
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            self.source = State::of(source);
            // There are no other frames than these two, until http-body invents one.
            let piece = match frame.into_data().map_err(Frame::into_trailers) {
                Ok(data) => Piece::Data(data),
                Err(Ok(trailers)) => Piece::Trailers(Box::new(trailers)),
                Err(Err(_)) => continue,
            };
            self.pulled += piece.bytes();
            self.keep(&piece, alone);
            return Poll::Ready(Some(Ok(at.pass(piece))));
        }
    }

    /// A piece that was pulled before, by this copy's number.
    fn kept_piece(&mut self, number: usize, alone: bool) -> Option<Piece> {
        if !alone {
            return self.kept.get(number - self.first).cloned();
        }
        let passed = (number - self.first).min(self.kept.len());
        self.kept.drain(..passed);
        self.first += passed;
        let piece = self.kept.pop_front()?;
        self.first += 1;
        Some(piece)
    }

    fn keep(&mut self, piece: &Piece, alone: bool) {
        let cost = self.cost.saturating_add(piece.cost());
        if alone || self.first > 0 || cost > KEPT {
            self.forget();
            self.first += 1;
        } else {
            self.cost = cost;
            self.kept.push_back(piece.clone());
        }
    }

    fn forget(&mut self) {
        self.first += self.kept.len();
        self.kept = VecDeque::new();
    }
}

impl At {
    fn pass(&mut self, piece: Piece) -> Frame<Bytes> {
        self.next += 1;
        self.given += piece.bytes();
        match piece {
            Piece::Data(data) => Frame::data(data),
            Piece::Trailers(trailers) => Frame::trailers(*trailers),
        }
    }
}

impl Piece {
    fn bytes(&self) -> u64 {
        if let Self::Data(data) = self { data.len() as u64 } else { 0 }
    }

    fn cost(&self) -> usize {
        match self {
            Self::Data(data) => data.len().max(PIECE),
            Self::Trailers(trailers) => {
                trailers.iter().map(|(name, value)| name.as_str().len() + value.len() + PIECE).sum()
            }
        }
    }
}

/// Why a copy cannot be sent (any further).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsendable {
    TooLong,
    Failed,
    Overtaken,
}

impl fmt::Display for Unsendable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLong => {
                "the streamed body is longer than what is kept of it, so it can be sent only once: hold it in memory, \
                 or do not repeat the request"
            }
            Self::Failed => "the stream of the body has failed before: make the request anew",
            Self::Overtaken => {
                "a later attempt has taken over the streamed body: hold it in memory to send it twice at the same time"
            }
        })
    }
}

impl StdError for Unsendable {}
