use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Deadline, Origin, Reason, Rejectable, Scope};
use pin_project_lite::pin_project;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

pin_project! {
    /// The future of [`Timeout`](crate::Timeout).
    ///
    /// When the time is up it drops the call inside at once, and then gives the rejection. Dropped unfinished, it drops
    /// the call and leaves nothing behind.
    ///
    /// # Panics
    /// When the call has to wait and there is no tokio runtime with a timer; when it is polled again after it gave a
    /// rejection. After an answer, it is for the future inside to say what another poll does.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<F> {
        #[pin]
        state: State<F>,
        origin: Origin,
    }
}

pin_project! {
    #[project = Project]
    #[derive(Debug)]
    enum State<F> {
        Running {
            #[pin]
            future: F,
            scope: Scope,
            // None until the call has to wait: a timer costs more than all the rest.
            #[pin]
            timer: Option<Sleep>,
        },
        Refused,
        Done,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) const fn running(future: F, scope: Scope, origin: Origin) -> Self {
        Self { state: State::Running { future, scope, timer: None }, origin }
    }

    pub(crate) const fn refused(origin: Origin) -> Self {
        Self { state: State::Refused, origin }
    }
}

impl<F, Res, Err> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Res, Err>>,
    Err: Rejectable,
{
    type Output = Result<Res, Err>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let rejected = match this.state.as_mut().project() {
            Project::Running { future, scope, timer } => {
                // Before the timer: an answer that is there wins.
                match scope.enter(|| future.poll(cx)) {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(owned(error, scope, *this.origin))),
                    Poll::Ready(answer) => return Poll::Ready(answer),
                    Poll::Pending => {}
                }
                let deadline = ready!(poll_expired(scope, timer, cx));
                this.origin.reject(reason(deadline)).after_sending()
            }
            Project::Refused => this.origin.reject(Reason::DeadlineExceeded),
            Project::Done => panic!("polled after it was done"),
        };
        this.state.set(State::Done);
        Poll::Ready(Err(rejected.into()))
    }
}

/// Whoever is inside and honours the deadline notices first that it has passed. Where it was this layer's own limit, it
/// is this layer that gave the call up.
#[cold]
fn owned<Err: Rejectable>(error: Err, scope: &mut Scope, origin: Origin) -> Err {
    let Some(rejected) = error.rejected() else { return error };
    let deadline = fixed(scope, Instant::now);
    if rejected.reason() != Reason::DeadlineExceeded
        || deadline > Instant::now()
        || reason(deadline) != Reason::TimedOut
    {
        return error;
    }
    let own = origin.reject(Reason::TimedOut);
    if rejected.sent() { own.after_sending().into() } else { own.into() }
}

/// Waits until the deadline of the scope, and says which it was.
fn poll_expired(
    scope: &mut Scope,
    mut timer: Pin<&mut Option<Sleep>>,
    cx: &mut Context<'_>,
) -> Poll<Instant> {
    let set = timer.as_ref().as_pin_ref().map(|timer| timer.deadline());
    let deadline = match set {
        None => {
            let now = Instant::now();
            let deadline = fixed(scope, || now);
            // A timer would take until the next millisecond to say so.
            if deadline <= now {
                return Poll::Ready(deadline);
            }
            timer.set(Some(sleep_until(deadline)));
            deadline
        }
        Some(set) => {
            let deadline = fixed(scope, Instant::now);
            // It has been moved under an earlier deadline.
            if deadline < set
                && let Some(timer) = timer.as_mut().as_pin_mut()
            {
                timer.reset(deadline);
            }
            deadline
        }
    };
    if let Some(timer) = timer.as_pin_mut() {
        // A call that uses up its task's cooperative budget at every poll would otherwise keep the timer from being
        // looked at, for ever.
        ready!(pin!(unconstrained(timer)).poll(cx));
    }
    Poll::Ready(deadline)
}

fn fixed(scope: &mut Scope, now: impl FnOnce() -> Instant) -> Instant {
    scope.fix(now).expect("a scope of a limited length has an end").instant()
}

/// Whose deadline it was: the surrounding one, or the layer's own limit.
fn reason(deadline: Instant) -> Reason {
    // The layer around sees the first wait a moment after this one did, so its deadline is that much later although it
    // is the one that was kept. tokio's timers do not tell instants within a millisecond apart.
    const SAME: Duration = Duration::from_millis(1);
    match Deadline::current() {
        Some(surrounding) if surrounding.instant() <= deadline + SAME => Reason::DeadlineExceeded,
        _ => Reason::TimedOut,
    }
}
