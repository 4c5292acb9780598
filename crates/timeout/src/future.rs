use std::{
    future::Future,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Deadline, Decision, Origin, Reason, Rejectable, Scope};
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
            // Whether the timer is set to the layer's own limit, and not to a surrounding deadline.
            own: bool,
        },
        Refused,
        Done,
    }
}

impl<F> ResponseFuture<F> {
    pub(crate) const fn running(future: F, scope: Scope, origin: Origin) -> Self {
        Self { state: State::Running { future, scope, timer: None, own: false }, origin }
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
            Project::Running { future, scope, timer, own } => {
                // Before the timer: an answer that is there wins.
                match scope.enter(|| future.poll(cx)) {
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(owned(error, scope, timer.as_ref(), *own, *this.origin)));
                    }
                    Poll::Ready(answer) => return Poll::Ready(answer),
                    Poll::Pending => {}
                }
                ready!(poll_expired(scope, timer, own, cx));
                let reason = if *own { Reason::TimedOut } else { Reason::DeadlineExceeded };
                Decision::note(*this.origin, "gave_up", || gave_up(*own));
                this.origin.reject(reason).after_sending()
            }
            Project::Refused => {
                Decision::note(*this.origin, "refused", || "the caller's deadline had passed before".into());
                this.origin.reject(Reason::DeadlineExceeded)
            }
            Project::Done => panic!("polled after it was done"),
        };
        this.state.set(State::Done);
        Poll::Ready(Err(rejected.into()))
    }
}

/// Whoever is inside and honours the deadline notices first that it has passed. Where it was this layer's own limit, it
/// is this layer that gave the call up.
#[cold]
fn owned<Err: Rejectable>(
    error: Err,
    scope: &mut Scope,
    timer: Pin<&Option<Sleep>>,
    own: bool,
    origin: Origin,
) -> Err {
    let Some(rejected) = error.rejected() else { return error };
    if rejected.reason() != Reason::DeadlineExceeded {
        return error;
    }
    let (deadline, own, _) = limit(scope, timer, own);
    if !own || deadline > Instant::now() {
        return error;
    }
    Decision::note(origin, "gave_up", || gave_up(true));
    let own = origin.reject(Reason::TimedOut);
    if rejected.sent() { own.after_sending().into() } else { own.into() }
}

#[cold]
fn gave_up(own: bool) -> String {
    if own { "its limit was up" } else { "the caller's deadline passed" }.into()
}

/// Waits until the deadline of the scope, and keeps in `own` whether that is the layer's own limit.
fn poll_expired(
    scope: &mut Scope,
    mut timer: Pin<&mut Option<Sleep>>,
    own: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<()> {
    let (deadline, passed);
    (deadline, *own, passed) = limit(scope, timer.as_ref(), *own);
    match timer.as_mut().as_pin_mut() {
        None => {
            // A timer would take until the next millisecond to say so.
            if passed {
                return Poll::Ready(());
            }
            timer.set(Some(sleep_until(deadline)));
        }
        // It has been moved under an earlier deadline.
        Some(timer) if deadline < timer.deadline() => timer.reset(deadline),
        Some(_) => {}
    }
    if let Some(timer) = timer.as_pin_mut() {
        // A call that uses up its task's cooperative budget at every poll would otherwise keep the timer from being
        // looked at, for ever.
        ready!(pin!(unconstrained(timer)).poll(cx));
    }
    Poll::Ready(())
}

/// When the call has to end, and whether that is the layer's own limit and not a surrounding deadline. Where the timer
/// is set, it keeps what was found then: the call can have been moved out of the deadline that it keeps to. Where it is
/// not, the last says whether the time is up already.
fn limit(scope: &mut Scope, timer: Pin<&Option<Sleep>>, own: bool) -> (Instant, bool, bool) {
    const LIMITED: &str = "a scope of a limited length has an end";
    if let Some(timer) = timer.as_pin_ref() {
        let deadline = scope.fix(Instant::now).expect(LIMITED).instant();
        return (deadline, own && deadline >= timer.deadline(), false);
    }
    // The surrounding one first: should it begin to run here as well, then no later than the scope.
    let surrounding = Deadline::current().map(Deadline::instant);
    let now = Instant::now();
    let mut asked_inside = true;
    let begin = || {
        asked_inside = false;
        now
    };
    let deadline = scope.fix(begin).expect(LIMITED).instant();
    // Where somebody inside began both by asking, the surrounding one began when he had returned.
    let later = if asked_inside { Duration::from_millis(1) } else { Duration::ZERO };
    match surrounding {
        Some(surrounding) if surrounding <= deadline + later => {
            (deadline.min(surrounding), false, surrounding.min(deadline) <= now)
        }
        _ => (deadline, true, deadline <= now),
    }
}
