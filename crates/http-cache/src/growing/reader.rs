use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::Frame;

use super::{End, Growing, LOOKS, Limit, Slot, Source};
use crate::error::BodyError;

/// Who reads a [`Growing`] body. When the last one goes before the end, the body is cut.
pub(crate) struct Reader {
    growing: Arc<Growing>,
    number: u64,
    next: usize,
    /// In bytes.
    read: u64,
    done: bool,
}

impl Reader {
    pub(super) const fn new(growing: Arc<Growing>, number: u64) -> Self {
        Self { growing, number, next: 0, read: 0, done: false }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        for _ in 0..LOOKS {
            let mut state = self.growing.lock();
            if let Some(chunk) = state.chunks.get(self.next).cloned() {
                self.next += 1;
                self.read += chunk.len() as u64;
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
            let is_known = waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            let old = if is_known { None } else { waker.replace(cx.waker().clone()) };
            let source = state.source.take();
            drop(state);
            // It may own another reader.
            drop(old);
            // Without a source, another reader polls it at this moment: the source wakes all if that gets nothing.
            let Some(source) = source else { return Poll::Pending };
            if self.fetch(source).is_pending() {
                return Poll::Pending;
            }
        }
        // Empty parts, one after the other.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Polls the source once. Ready: there is something new to be looked at.
    fn fetch(&self, source: Source) -> Poll<()> {
        let mut held = Held { growing: &self.growing, source: Some(source), returned: false };
        let waker = Waker::from(self.growing.clone());
        let source = held.source.as_mut().expect("it was just put there");
        let polled = source.as_mut().poll_frame(&mut Context::from_waker(&waker));
        // Who passes a body on may stop reading when it has the announced length, and never see its end.
        let is_last = source.is_end_stream();
        held.returned = true;
        let Poll::Ready(frame) = polled else {
            return Poll::Pending;
        };
        match frame {
            Some(Ok(frame)) => {
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
    pub(crate) const fn remaining(&self, announced: u64) -> u64 {
        announced.saturating_sub(self.read)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.growing.lock();
        let left = state.readers.iter().position(|slot| slot.0 == self.number);
        let slot = left.map(|index| state.readers.swap_remove(index));
        let alone = state.readers.is_empty() && matches!(state.end, End::Open);
        let is_whole = matches!(state.limit, Limit::Exactly(announced) if state.length == announced);
        drop(state);
        drop(slot);
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
        let has_woken = mem::take(&mut state.has_woken);
        drop(state);
        if has_woken {
            self.growing.wake_all();
        }
    }
}
