mod reader;

pub(crate) use self::reader::Reader;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Wake, Waker},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame};
use tokio::time::Instant;

use crate::{
    budget::Taken,
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
    /// It woke its readers while it was away: they found nothing, and it must wake them again.
    has_woken: bool,
    /// When the last part came.
    arrived: Instant,
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
    taken: Option<Taken>,
}

/// Nobody begins to read a body of which nothing has come for so long: its connection may be gone.
const STALLED: Duration = Duration::from_secs(5);
/// What a part takes beside its bytes, about.
const OF_A_PART: u64 = 64;
/// How often a reader looks at what has come before others have their turn.
const LOOKS: u32 = 32;

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
    ///
    /// `taken`: of the budget. Where the length was announced, all that it needs; else it takes more as it grows.
    pub(crate) fn new(source: Source, limit: Limit, taken: Taken) -> (Arc<Self>, Reader) {
        let growing = Arc::new(Self {
            state: Mutex::new(State {
                source: Some(source),
                has_woken: false,
                arrived: Instant::now(),
                chunks: Vec::new(),
                length: 0,
                trailers: None,
                end: End::Open,
                limit,
                readers: vec![Slot(0, None)],
                numbers: 1,
                passing: false,
                keep: None,
                taken: Some(taken),
            }),
        });
        let reader = Reader::new(growing.clone(), 0);
        (growing, reader)
    }

    /// What is to be done in the end; at once, where a reader that was quick has come to it already.
    pub(crate) fn when_done(&self, keep: Keep) {
        let mut state = self.lock();
        if matches!(state.end, End::Open) {
            state.keep = Some(keep);
            return;
        }
        let done = state.done();
        drop(state);
        keep(done);
    }

    /// Whether it can be read from the beginning: it was not cut, nor left by all, and has not stalled.
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
        Some(Reader::new(self.clone(), number))
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
        state.has_woken = false;
        state.arrived = Instant::now();
        let mut too_long = None;
        let mut released = None;
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                state.length = state.length.saturating_add(data.len() as u64);
                match state.limit {
                    Limit::Exactly(announced) if state.length > announced => {
                        drop(state);
                        return self.end(End::Cut(BodyError::too_long()));
                    }
                    Limit::AtMost(most) if !state.passing => {
                        let is_left = |taken: &mut Taken| taken.more(data.len() as u64 + OF_A_PART);
                        if state.length > most || !state.taken.as_mut().is_some_and(is_left) {
                            state.passing = true;
                            too_long = state.keep.take();
                            released = state.taken.take();
                        }
                    }
                    _ => {}
                }
                state.chunks.push(data);
            }
            Err(frame) => state.trailers = frame.into_trailers().ok(),
        }
        drop(state);
        drop(released);
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
        let is_short = matches!(state.limit, Limit::Exactly(announced) if state.length < announced);
        let end = match end {
            End::Whole if is_short => End::Cut(BodyError::too_short()),
            end => end,
        };
        state.end = end;
        let keep = state.keep.take().map(|keep| (keep, state.done()));
        let source = state.source.take();
        drop(state);
        if let Some((keep, done)) = keep {
            keep(done);
        }
        self.wake_all();
        // Last: it is the service's, and may panic.
        drop(source);
    }
}

impl State {
    /// How it ended, for the one who keeps it.
    fn done(&self) -> Done {
        match self.end {
            End::Whole if !self.passing => Done::Whole(joined(&self.chunks)),
            _ => Done::Cut,
        }
    }

    fn is_readable(&self) -> bool {
        match self.end {
            End::Open => !self.readers.is_empty() && self.arrived.elapsed() < STALLED,
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

/// By the source.
impl Wake for Growing {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.lock();
        state.has_woken |= state.source.is_none();
        drop(state);
        self.wake_all();
    }
}

impl fmt::Debug for Growing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Growing").finish_non_exhaustive()
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_models;

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn, sync::Mutex as Plain};

    use http_body_util::{BodyExt, Full};

    use super::*;
    use crate::budget::Budget;

    /// Another thread may read a body to its end before it is said what is to be done then.
    #[tokio::test]
    async fn what_is_to_be_done_is_done_though_the_body_has_ended() {
        for reads in [true, false] {
            let body = Full::new(Bytes::from_static(b"part")).map_err(|never: Infallible| match never {});
            let taken = Arc::new(Budget::new(4)).take(4).unwrap();
            let (growing, mut reader) = Growing::new(Box::pin(body), Limit::Exactly(4), taken);
            if reads {
                while poll_fn(|cx| reader.poll_frame(cx)).await.is_some() {}
            }
            drop(reader);
            let told = Arc::new(Plain::new(Vec::new()));
            let theirs = told.clone();
            growing.when_done(Box::new(move |done| {
                let whole = if let Done::Whole(bytes) = done { Some(bytes) } else { None };
                theirs.lock().unwrap().push(whole);
            }));
            assert_eq!(*told.lock().unwrap(), [reads.then(|| Bytes::from_static(b"part"))]);
        }
    }
}
