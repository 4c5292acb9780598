//! Keeps hyper's task that closes idle connections.
//!
//! The pool begins it once, on the runtime of the call that happens to come first. Where that runtime ends before the client
//! does, the task would end with it, and no idle connection would be closed any more: not in time, not to make room for
//! another host, and not when the client is closed. So what is left of it goes on where the pool's clock is read next.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use hyper::rt;
use hyper_util::rt::TokioExecutor;
use tokio::runtime::Handle;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

thread_local! {
    /// The pool has read the clock. It does so for a connection that becomes idle, and may begin the task right after.
    static MAY_BEGIN: Cell<bool> = const { Cell::new(false) };
    /// The pool's timer was set, which the task alone does, first of all.
    static SLEEPS: Cell<bool> = const { Cell::new(false) };
}

/// The pool reads the clock.
pub(crate) fn may_begin() {
    MAY_BEGIN.set(true);
}

/// The pool's timer is set.
pub(crate) fn sleeps() {
    SLEEPS.set(true);
}

/// What runtimes that ended have left of the task, and of others that may be it.
pub(crate) type Left = crate::left::Left<Kept>;

impl Left {
    /// Lets the task go on here, if there is a runtime, and tells that it will.
    pub(crate) fn go_on(self: &Arc<Self>, moves: impl FnOnce()) {
        if !self.may_be_there() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let tasks = self.take();
        moves();
        for task in tasks {
            runtime.spawn(Keeper { task: Some(task), left: Arc::clone(self) });
        }
    }
}

/// hyper's executor: tokio's, but for that task.
#[derive(Clone)]
pub(crate) struct Executor(pub(crate) Arc<Left>);

impl rt::Executor<Task> for Executor {
    fn execute(&self, task: Task) {
        if MAY_BEGIN.take() {
            let task = Some(Kept { task, is_it: None });
            TokioExecutor::new().execute(Keeper { task, left: Arc::clone(&self.0) });
        } else {
            TokioExecutor::new().execute(task);
        }
    }
}

pub(crate) struct Kept {
    task: Task,
    /// Whether it is the one; not known before it was polled.
    is_it: Option<bool>,
}

struct Keeper {
    /// `None` after its end, and while it is polled: it does not go on after a panic.
    task: Option<Kept>,
    left: Arc<Left>,
}

impl Future for Keeper {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut kept) = self.task.take() else { return Poll::Ready(()) };
        SLEEPS.set(false);
        let polled = kept.task.as_mut().poll(cx);
        if polled.is_pending() {
            kept.is_it.get_or_insert(SLEEPS.get());
            self.task = Some(kept);
        }
        polled
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(kept) = self.task.take().filter(|kept| kept.is_it != Some(false)) {
            self.left.leave(kept);
        }
    }
}
