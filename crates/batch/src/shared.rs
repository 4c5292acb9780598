use std::{
    fmt,
    task::{Context, Waker},
};

use buttress_core::{Origin, Reason, Rejected};
use tokio::time::Instant;

use crate::{
    Stats,
    gather::{Due, Entry, Gather, Taken},
    outcome::Outcome,
    rules::Limits,
    seats::{Laid, Left},
    sync::{Mutex, MutexGuard, Notify, PoisonError},
};

/// The one lock of a batcher. Under it nothing of the user's is cloned, dropped, compared or woken.
pub(crate) struct Shared<Req, Res, E> {
    origin: Origin,
    state: Mutex<State<Req, Res, E>>,
    /// Told when it was closed and the last has ended.
    over: Notify,
}

struct State<Req, Res, E> {
    gather: Gather<Req, Outcome<Res, E>>,
    stats: Stats,
}

/// How it stands with what waits, for the one who gathers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing waits: his work is over.
    Over,
    Ready,
    Linger(Instant),
}

/// How it ended for a lone caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Alone {
    Answered,
    Failed,
    Unsent,
    /// He went away, or it panicked.
    Abandoned,
}

impl<Req, Res, E> Shared<Req, Res, E> {
    pub(crate) fn new(origin: Origin, limits: Limits) -> Self {
        let state = State { gather: Gather::new(limits), stats: Stats::default() };
        Self { origin, state: Mutex::new(state), over: Notify::new() }
    }

    pub(crate) const fn origin(&self) -> Origin {
        self.origin
    }

    fn lock(&self) -> MutexGuard<'_, State<Req, Res, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(
        &self,
        request: Req,
        weight: u64,
        deadline: Option<Instant>,
        waker: &Waker,
    ) -> Entry<Req> {
        let mut state = self.lock();
        let entry = state.gather.enter(request, weight, deadline, Instant::now, waker);
        if let Entry::Wait { hurry: true, .. } = entry {
            let hurried = state.gather.gatherers_waker();
            drop(state);
            hurried.into_iter().for_each(Waker::wake);
        }
        entry
    }

    /// What a caller has got, if he has.
    pub(crate) fn look(&self, key: u32, waker: &Waker) -> Option<Outcome<Res, E>> {
        let (found, _replaced) = self.lock().gather.seats.look(key, waker);
        found
    }

    pub(crate) fn leave(&self, key: u32) -> Left<Req, Outcome<Res, E>> {
        let (left, _mine, wake) = self.lock().gather.leave(key);
        wake.into_iter().for_each(Waker::wake);
        left
    }

    /// A lone caller's turn ended.
    pub(crate) fn alone_ended(&self, alone: Alone) {
        let mut state = self.lock();
        state.gather.alone_ended();
        let sent = u64::from(alone != Alone::Unsent);
        state.stats.batches += sent;
        state.stats.items += sent;
        state.stats.failed += u64::from(alone == Alone::Failed);
        state.stats.abandoned += u64::from(alone == Alone::Abandoned);
        self.unlock(state);
    }

    /// For the one who gathers. He is woken when it is to be looked again.
    pub(crate) fn look_around(&self, number: u32, cx: &mut Context<'_>) -> Look {
        let mut state = self.lock();
        let look = match state.gather.due() {
            Due::Never => return Look::Over,
            Due::Now => Look::Ready,
            Due::At(due) => Look::Linger(due),
        };
        state.gather.listen(number, cx.waker());
        look
    }

    /// Takes those whose turn it is, as far as there is room.
    pub(crate) fn take(&self, number: u32, room: (usize, u64), taken: &mut Taken<Req>) {
        let mut state = self.lock();
        let begun = taken.keys.len();
        state.gather.take(number, room, Instant::now, taken);
        let more = taken.keys.len() - begun;
        state.stats.batches += u64::from(begun == 0 && more > 0);
        state.stats.items += more as u64;
        if taken.late.is_empty() {
            return;
        }
        let (late, rejections): (Vec<_>, Vec<_>) = std::mem::take(&mut taken.late)
            .into_iter()
            .map(|(key, request)| (request, (key, Outcome::Rejected(self.reject(Reason::DeadlineExceeded)))))
            .unzip();
        let woken = state.lay(None, rejections);
        drop(state);
        // Before the requests are dropped, which may panic.
        woken.wake();
        drop(late);
    }

    /// The number of a worker that is to begin, because something waits and nobody gathers.
    pub(crate) fn begin(&self) -> Option<u32> {
        self.lock().gather.begin()
    }

    pub(crate) fn count_failed(&self, splits: u64, failed: bool) {
        let mut state = self.lock();
        state.stats.splits += splits;
        state.stats.failed += u64::from(failed);
    }

    /// Lays results of a worker's batch where their callers find them.
    pub(crate) fn lay(&self, number: u32, results: impl IntoIterator<Item = (u32, Outcome<Res, E>)>) {
        let woken = self.lock().lay(Some(number), results);
        woken.wake();
    }

    pub(crate) fn is_wanted(&self, key: u32) -> bool {
        self.lock().gather.seats.is_wanted(key)
    }

    /// Whether the last caller of a worker's batch has gone. The worker is woken when he goes.
    pub(crate) fn is_abandoned(&self, number: u32, cx: &mut Context<'_>) -> bool {
        let mut state = self.lock();
        let abandoned = state.gather.is_abandoned(number);
        if abandoned {
            state.stats.abandoned += 1;
        } else {
            state.gather.listen(number, cx.waker());
        }
        abandoned
    }

    /// Whether the one who gathers ends, because nothing waits still.
    pub(crate) fn ends(&self, number: u32) -> bool {
        let mut state = self.lock();
        let ends = state.gather.due() == Due::Never;
        if ends {
            state.gather.end(number);
        }
        self.unlock(state);
        ends
    }

    pub(crate) fn goes_on(&self, number: u32) -> bool {
        let mut state = self.lock();
        let goes_on = state.gather.goes_on(number);
        self.unlock(state);
        goes_on
    }

    /// A worker's task is gone before its work was done. What waits without a worker would wait for ever: it is refused.
    pub(crate) fn lost(&self, number: u32) {
        let mut state = self.lock();
        let (keys, requests): (Vec<_>, Vec<_>) = state.gather.lost(number).into_iter().unzip();
        let rejections =
            keys.into_iter().map(|key| (key, Outcome::Rejected(self.reject(Reason::BatchFailed))));
        let woken = state.lay(None, rejections);
        self.unlock(state);
        // Before the requests are dropped, which may panic.
        woken.wake();
        drop(requests);
    }

    fn unlock(&self, state: MutexGuard<'_, State<Req, Res, E>>) {
        let over = state.gather.is_over();
        drop(state);
        if over {
            self.over.notify_waiters();
        }
    }

    pub(crate) fn reject(&self, reason: Reason) -> Rejected {
        self.origin.reject(reason)
    }

    pub(crate) async fn close(&self) {
        let mut over = std::pin::pin!(self.over.notified());
        over.as_mut().enable();
        let (hurried, is_over) = {
            let mut state = self.lock();
            state.gather.close();
            (state.gather.gatherers_waker(), state.gather.is_over())
        };
        hurried.into_iter().for_each(Waker::wake);
        if !is_over {
            over.await;
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let state = self.lock();
        Stats { waiting: state.gather.seats.waiting(), ..state.stats }
    }
}

impl<Req, Res, E> State<Req, Res, E> {
    fn lay(
        &mut self,
        number: Option<u32>,
        results: impl IntoIterator<Item = (u32, Outcome<Res, E>)>,
    ) -> Woken<Outcome<Res, E>> {
        let results = results.into_iter();
        let mut woken = Woken { wakers: Vec::with_capacity(results.size_hint().0), unwanted: Vec::new() };
        for (key, result) in results {
            match self.gather.seats.lay(key, result) {
                Laid::For(waker) => {
                    if let Some(number) = number {
                        self.gather.settled(number);
                    }
                    woken.wakers.extend(waker);
                }
                Laid::ForNobody(result) => woken.unwanted.push(result),
            }
        }
        woken
    }
}

/// What is left to be done without the lock. A waker that panics keeps nobody else waiting.
#[must_use]
struct Woken<T> {
    wakers: Vec<Waker>,
    unwanted: Vec<T>,
}

impl<T> Woken<T> {
    fn wake(self) {
        struct Rest(std::vec::IntoIter<Waker>);
        impl Drop for Rest {
            fn drop(&mut self) {
                self.0.by_ref().for_each(Waker::wake);
            }
        }
        let mut rest = Rest(self.wakers.into_iter());
        for waker in rest.0.by_ref() {
            waker.wake();
        }
    }
}

impl<Req, Res, E> fmt::Debug for Shared<Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("origin", &self.origin).finish_non_exhaustive()
    }
}
