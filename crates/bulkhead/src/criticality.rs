use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

/// How much a call matters, from what may be shed first to what must go through. The four levels and their meaning are
/// those of Google's SRE book ("Handling Overload").
///
/// It is read only where the bulkhead is full: from the request, where the layer was given a function for that, else
/// from the task, where a [`scope`](Self::scope) set it, else it is [`Critical`](Self::Critical).
///
/// ```
/// use buttress_bulkhead::Criticality;
///
/// assert!(Criticality::Sheddable < Criticality::Critical);
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let nightly = async { assert_eq!(Criticality::current(), Criticality::Sheddable) };
/// Criticality::Sheddable.scope(nightly).await;
/// assert_eq!(Criticality::current(), Criticality::Critical);
/// # });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Criticality {
    /// Partial or even full loss is expected at times: batch work that tries again.
    Sheddable,
    /// Partial loss is expected: batch work with somebody waiting for it at the end of the day.
    SheddablePlus,
    /// Loss is seen by users. The default.
    #[default]
    Critical,
    /// Loss is seen by users at once, and badly.
    CriticalPlus,
}

thread_local! {
    static AMBIENT: Cell<Criticality> = const { Cell::new(Criticality::Critical) };
}

impl Criticality {
    pub(crate) const ALL: [Self; 4] =
        [Self::Sheddable, Self::SheddablePlus, Self::Critical, Self::CriticalPlus];

    /// What the innermost [`scope`](Self::scope) around this code set, else [`Critical`](Self::Critical).
    #[must_use]
    pub fn current() -> Self {
        AMBIENT.get()
    }

    /// Runs a future at this level, whatever surrounds it. It does not follow a spawned task: scope the task too. A
    /// service reads it in `call`: what has to be scoped is the code that calls, not the future that `call` returned.
    pub fn scope<F: Future>(self, future: F) -> Scoped<F> {
        Scoped { future, level: self }
    }
}

pin_project! {
    /// A future that runs at a [`Criticality`]: made by [`Criticality::scope`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        #[pin]
        future: F,
        level: Criticality,
    }
}

/// Also when the future panics.
struct Restore(Criticality);

impl Drop for Restore {
    fn drop(&mut self) {
        AMBIENT.set(self.0);
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _restore = Restore(AMBIENT.replace(*this.level));
        this.future.poll(cx)
    }
}

/// Tells how much a request matters. Any `Fn(&Req) -> Option<Criticality>` is one; `None` leaves it to the task.
///
/// It runs only where the bulkhead is full.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not tell the criticality of `{Req}`",
    note = "a closure takes `&{Req}`, spelled out, and returns `Option<Criticality>`"
)]
pub trait Prioritize<Req> {
    /// The level of that request.
    fn criticality(&self, request: &Req) -> Option<Criticality>;
}

impl<F, Req> Prioritize<Req> for F
where
    F: Fn(&Req) -> Option<Criticality>,
{
    fn criticality(&self, request: &Req) -> Option<Criticality> {
        self(request)
    }
}

/// The default: it is the task that says how much a call matters.
#[derive(Debug, Clone, Copy, Default)]
pub struct ByTask;

impl<Req> Prioritize<Req> for ByTask {
    fn criticality(&self, _: &Req) -> Option<Criticality> {
        None
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::{
        future::poll_fn,
        panic::{AssertUnwindSafe, catch_unwind},
        task::Waker,
    };

    use super::*;

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_innermost_scope_holds_and_ends() {
        let inside = Criticality::CriticalPlus.scope(poll_fn(|_| Poll::Ready(Criticality::current())));
        let around = Criticality::Sheddable.scope(async {
            assert_eq!(inside.await, Criticality::CriticalPlus);
            Criticality::current()
        });
        assert_eq!(poll(around), Poll::Ready(Criticality::Sheddable));
        assert_eq!(Criticality::current(), Criticality::Critical);
    }

    #[test]
    fn a_pending_or_panicking_future_leaves_nothing() {
        assert!(poll(Criticality::Sheddable.scope(std::future::pending::<()>())).is_pending());
        assert_eq!(Criticality::current(), Criticality::Critical);
        let panics = Criticality::Sheddable.scope(poll_fn(|_| -> Poll<()> { panic!("inside") }));
        assert!(catch_unwind(AssertUnwindSafe(|| poll(panics))).is_err());
        assert_eq!(Criticality::current(), Criticality::Critical);
    }
}
