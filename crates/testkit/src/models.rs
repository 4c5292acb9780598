//! What loom models of several crates have in common: tokio's words to those who wait, as parts of a model.
//!
//! They are tokio's own, of which each call is one step: loom does not see into them, so it may change threads before a step, and
//! takes what was written before one as seen after the next. What is checked is how they are used.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::PoisonError,
    task::{Context, Poll},
    thread,
};

use loom::sync::{Mutex, MutexGuard};
use tokio::sync::{self, AcquireError, TryAcquireError};

/// Every interleaving with at most so many preemptions of a running thread. `LOOM_MAX_PREEMPTIONS` asks for another number.
///
/// Two is where most of what goes wrong does (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007).
pub fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.check(run);
}

#[derive(Debug, Default)]
struct Step(Mutex<()>);

impl Step {
    fn take(&self) -> MutexGuard<'_, ()> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For what is dropped, be it because the model has failed.
    fn take_to_drop(&self) -> Option<MutexGuard<'_, ()>> {
        (!thread::panicking()).then(|| self.take())
    }
}

/// [`tokio::sync::Notify`].
#[derive(Debug, Default)]
pub struct Notify {
    step: Step,
    real: sync::Notify,
}

impl Notify {
    /// As tokio's.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// As tokio's.
    pub fn notify_one(&self) {
        let _step = self.step.take();
        self.real.notify_one();
    }

    /// As tokio's.
    pub fn notify_waiters(&self) {
        let _step = self.step.take();
        self.real.notify_waiters();
    }

    /// As tokio's.
    pub fn notified(&self) -> Notified<'_> {
        let _step = self.step.take();
        Notified { step: &self.step, real: Some(Box::pin(self.real.notified())) }
    }
}

/// [`tokio::sync::futures::Notified`].
#[derive(Debug)]
pub struct Notified<'a> {
    step: &'a Step,
    real: Option<Pin<Box<sync::futures::Notified<'a>>>>,
}

impl<'a> Notified<'a> {
    fn real(&mut self) -> Pin<&mut sync::futures::Notified<'a>> {
        self.real.as_mut().expect("it is there until it is dropped").as_mut()
    }

    /// As tokio's.
    pub fn enable(mut self: Pin<&mut Self>) -> bool {
        let _step = self.step.take();
        self.real().enable()
    }
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let _step = self.step.take();
        self.real().poll(cx)
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let _step = self.step.take_to_drop();
        self.real = None;
    }
}

/// [`tokio::sync::Semaphore`].
#[derive(Debug)]
pub struct Semaphore {
    step: Step,
    real: sync::Semaphore,
}

impl Semaphore {
    /// As tokio's.
    #[must_use]
    pub fn new(permits: usize) -> Self {
        Self { step: Step::default(), real: sync::Semaphore::new(permits) }
    }

    /// As tokio's.
    #[must_use]
    pub fn available_permits(&self) -> usize {
        let _step = self.step.take();
        self.real.available_permits()
    }

    /// As tokio's.
    pub fn add_permits(&self, permits: usize) {
        let _step = self.step.take();
        self.real.add_permits(permits);
    }

    /// As tokio's.
    pub fn forget_permits(&self, permits: usize) -> usize {
        let _step = self.step.take();
        self.real.forget_permits(permits)
    }

    /// As tokio's.
    pub fn close(&self) {
        let _step = self.step.take();
        self.real.close();
    }

    /// As tokio's.
    ///
    /// # Errors
    /// As tokio's.
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        let _step = self.step.take();
        self.real.try_acquire().map(|real| SemaphorePermit { step: &self.step, real: Some(real) })
    }

    /// As tokio's.
    pub fn acquire(&self) -> Acquire<'_> {
        Acquire { step: &self.step, real: Some(Box::pin(self.real.acquire())) }
    }
}

/// [`tokio::sync::SemaphorePermit`].
#[derive(Debug)]
#[must_use]
pub struct SemaphorePermit<'a> {
    step: &'a Step,
    real: Option<sync::SemaphorePermit<'a>>,
}

impl SemaphorePermit<'_> {
    /// As tokio's.
    pub fn forget(mut self) {
        self.real.take().expect("it is there until it is dropped").forget();
    }
}

impl Drop for SemaphorePermit<'_> {
    fn drop(&mut self) {
        if let Some(real) = self.real.take() {
            let _step = self.step.take_to_drop();
            drop(real);
        }
    }
}

type Permit<'a> = Result<sync::SemaphorePermit<'a>, AcquireError>;

/// The future of [`Semaphore::acquire`].
pub struct Acquire<'a> {
    step: &'a Step,
    real: Option<Pin<Box<dyn Future<Output = Permit<'a>> + Send + 'a>>>,
}

impl<'a> Future for Acquire<'a> {
    type Output = Result<SemaphorePermit<'a>, AcquireError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let step = self.step;
        let _step = step.take();
        let real = self.real.as_mut().expect("it is there until it is dropped");
        real.as_mut().poll(cx).map_ok(|real| SemaphorePermit { step, real: Some(real) })
    }
}

impl Drop for Acquire<'_> {
    fn drop(&mut self) {
        let _step = self.step.take_to_drop();
        self.real = None;
    }
}

impl fmt::Debug for Acquire<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire").finish_non_exhaustive()
    }
}
