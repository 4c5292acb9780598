//! Lets hyper's pool close idle connections before their time.
//!
//! The pool closes what is idle too long by a task of its own, under the lock by which it hands connections out. So this
//! cannot meet a request, as an end of the stream would: hyper may lose, and let hang, a request that is given to a
//! connection while that ends. The task sleeps and reads the clock by a timer of ours. It is woken early, and the first
//! look at the clock after that, which is the task's, shows a time at which all that is to be closed is idle too long.

use std::{
    cell::Cell,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use hyper::rt::{Sleep, Timer};
use tokio::time;

use crate::{
    due::Due,
    idle_task::{self, Left},
    sync::{AtomicBool, AtomicU64, SeqCst},
};

#[derive(Clone)]
pub(crate) struct PoolTimer(Arc<Early>);

struct Early {
    idle_timeout: Duration,
    /// What is idle since before that is to be closed.
    until: Due<Instant>,
    /// Weak: what is left of the task has this timer.
    left: Weak<Left>,
    /// Whether there is any, without a reference counted.
    are_left: Arc<AtomicBool>,
    /// How many times the task has changed its runtime.
    moved: AtomicU64,
}

thread_local! {
    /// What the clock of that timer shows next.
    static SHOWN: Cell<Option<(*const Early, Instant)>> = const { Cell::new(None) };
}

impl PoolTimer {
    pub(crate) fn new(idle_timeout: Duration, left: &Arc<Left>) -> Self {
        Self(Arc::new(Early {
            idle_timeout,
            until: Due::new(),
            left: Arc::downgrade(left),
            are_left: Arc::clone(&left.are_there),
            moved: AtomicU64::new(0),
        }))
    }

    /// Closes what the pool holds idle since before that.
    pub(crate) fn close_idle_until(&self, until: Instant) {
        self.0.until.note(until);
        self.0.go_on();
    }
}

impl Early {
    fn go_on(&self) {
        if !self.are_left.load(SeqCst) {
            return;
        }
        if let Some(left) = self.left.upgrade() {
            left.go_on(|| {
                self.moved.fetch_add(1, SeqCst);
            });
        }
    }
}

impl Timer for PoolTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(time::Instant::now().into_std() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        idle_task::sleeps();
        let moved = self.0.moved.load(SeqCst);
        let sleep = Box::pin(time::sleep_until(deadline.into()));
        Box::pin(UntilWanted { early: Arc::clone(&self.0), sleep, moved })
    }

    fn now(&self) -> Instant {
        self.0.go_on();
        idle_task::may_begin();
        match SHOWN.take() {
            Some((whose, shown)) if whose == Arc::as_ptr(&self.0) => shown,
            _ => time::Instant::now().into_std(),
        }
    }
}

struct UntilWanted {
    early: Arc<Early>,
    sleep: Pin<Box<time::Sleep>>,
    moved: u64,
}

impl Sleep for UntilWanted {}

impl UntilWanted {
    fn is_wanted(&self) -> bool {
        let Some(until) = self.early.until.take() else { return false };
        let shown = until.checked_add(self.early.idle_timeout);
        SHOWN.set(shown.map(|shown| (Arc::as_ptr(&self.early), shown)));
        true
    }
}

impl Future for UntilWanted {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.early.until.wake(cx.waker());
        let moved = self.early.moved.load(SeqCst);
        if std::mem::replace(&mut self.moved, moved) != moved {
            // The old one belongs to a runtime that has ended.
            self.sleep = Box::pin(time::sleep_until(self.sleep.deadline()));
        }
        if !self.is_wanted() {
            ready!(self.sleep.as_mut().poll(cx));
        }
        Poll::Ready(())
    }
}
