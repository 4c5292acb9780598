use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use buttress_core::BoxError;
use tokio::time::{Sleep, advance, sleep};
use tower_service::Service;

use crate::{
    Call,
    call::{self, Kind},
    nanos::{Nanos, TICK},
    state::{Shared, Task},
};

/// How long calls may be in flight without one beginning or ending, when nothing is left in the agenda that could end
/// them: timers of the stack still may.
const PATIENCE: Nanos = 600_000_000_000;

/// Moves the clock, whenever no task can run at the present instant.
///
/// tokio calls a hook before the thread parks, which is the very moment: nothing is left to run and nothing has been
/// deferred. What is woken or spawned in the hook runs instead of the clock.
///
/// tokio's timers fire at whole milliseconds only, while the agenda is exact. So the clock is moved by hand to what the
/// agenda has within the present millisecond, and to the millisecond's end; from there on tokio moves it by itself, to
/// the next timer of the stack or to the last whole millisecond before the agenda's next entry. No timer is ever passed
/// over, and nothing waits for real time.
pub(crate) struct Driver<S> {
    shared: Arc<Shared>,
    stack: S,
    kind: Kind,
    /// Keeps tokio from passing over the agenda's next entry. Whom it wakes is nobody: the thread comes to park again.
    timer: Pin<Box<Sleep>>,
    wakers: Vec<Waker>,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) enum End {
    Complete,
    Panicked,
    Spinning,
    StandingStill,
}

/// What runs when the thread is about to park. It holds the driver, whose timer holds the runtime, which holds the hook:
/// so it has to be emptied at the end.
#[derive(Clone, Default)]
pub(crate) struct Hook(Arc<Mutex<Option<Step>>>);

type Step = Box<dyn FnMut() + Send>;

impl Hook {
    pub(crate) fn run(&self) {
        if let Some(step) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            step();
        }
    }

    pub(crate) fn fill(&self, step: impl FnMut() + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(step));
    }

    pub(crate) fn empty(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Waits until a run has ended.
pub(crate) async fn end(shared: &Shared) -> End {
    poll_fn(|cx| shared.with(|state| state.await_end(cx.waker()))).await
}

impl<S> Driver<S>
where
    S: Service<Call> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError> + Send,
    S::Response: Send,
{
    pub(crate) fn new(shared: Arc<Shared>, stack: S, kind: Kind) -> Self {
        Self { shared, stack, kind, timer: Box::pin(sleep(Duration::ZERO)), wakers: Vec::new() }
    }

    /// A panic is of the user's code: of the stack's `clone`, of a gauge, of a curve.
    pub(crate) fn step(&mut self) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.move_on())) {
            self.shared.with(|state| state.panicked(panic));
        }
    }

    /// Until somebody can run.
    fn move_on(&mut self) {
        loop {
            let (ended, next, progress) =
                self.shared.with(|state| (state.settle(), state.agenda.next(), state.progress));
            if ended {
                return;
            }
            let now = self.shared.now();
            let next = match next {
                Some(next) => next,
                None if now < progress.saturating_add(PATIENCE) => progress + PATIENCE,
                None => return self.shared.with(|state| state.stand_still()),
            };
            let tick = now - now % TICK + TICK;
            if next < tick {
                self.advance(next.saturating_sub(now));
                if self.act() {
                    return;
                }
            } else if now.is_multiple_of(TICK) {
                return self.set_timer(next - next % TICK);
            } else {
                // To let tokio look at its timers.
                return self.advance(tick - now);
            }
        }
    }

    /// The clock moves when it is polled; then it would yield to the tasks, as the hook does anyway.
    fn advance(&self, nanos: Nanos) {
        if nanos > 0 {
            let advance = pin!(advance(Duration::from_nanos(nanos)));
            let _: Poll<()> = advance.poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    fn set_timer(&mut self, at: Nanos) {
        self.timer.as_mut().reset(self.shared.instant(at));
        let _: Poll<()> = self.timer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Does what is due now, in order. Whether a task can run now.
    fn act(&mut self) -> bool {
        let mut runs = false;
        let now = self.shared.now();
        loop {
            let wakers = &mut self.wakers;
            let due = self.shared.with(|state| {
                let action = state.agenda.pop_due(now).filter(|_| !state.is_spinning())?;
                Some(state.act(action, wakers))
            });
            let Some(task) = due else { return runs };
            runs |= !self.wakers.is_empty();
            self.wakers.drain(..).for_each(Waker::wake);
            match task {
                Some(Task::Launch { slot, call }) => {
                    runs = true;
                    let (shared, stack, kind) =
                        (Arc::clone(&self.shared), self.stack.clone(), Arc::clone(&self.kind));
                    tokio::spawn(call::run(shared, slot, call, stack, kind));
                }
                Some(Task::Sample { number }) => self.read_gauges(number),
                None => {}
            }
        }
    }

    fn read_gauges(&self, number: usize) {
        let mut gauges = self.shared.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        let values = gauges.iter_mut().map(|(_, gauge)| gauge()).collect();
        self.shared.with(|state| state.recorder.samples[number].gauges = values);
    }
}
