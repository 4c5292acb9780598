use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Classify, Deadline, Reason, Rejectable};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep, sleep_until};
use tower_service::Service;

use crate::{ReplayRequest, rules::Course, service::Stripe};

pin_project! {
    /// The future of [`Retry`](crate::Retry).
    ///
    /// Dropped unfinished, it drops the attempt that runs and makes no other. A retry that was granted by the budget
    /// stays counted.
    ///
    /// # Panics
    /// When it has to wait between attempts and there is no tokio runtime with a timer. What a poll after the answer
    /// does is for the future inside to say.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req, F, C, P> {
        #[pin]
        state: State<F>,
        // What the next attempt needs. There is a spare service wherever there is a kept request.
        spare: Option<S>,
        kept: Option<Req>,
        course: Course,
        stripe: Arc<Stripe<C, P>>,
    }
}

pin_project! {
    #[project = Project]
    #[derive(Debug)]
    enum State<F> {
        Calling { #[pin] future: F },
        Sleeping { #[pin] sleep: Sleep },
        Yielding,
        Readying,
        // Readying as well, where it had to wait under a deadline.
        ReadyingUntil { #[pin] deadline: Sleep },
    }
}

impl<S, Req, F, C, P> ResponseFuture<S, Req, F, C, P> {
    pub(crate) fn new(future: F, spare: Option<S>, kept: Option<Req>, stripe: Arc<Stripe<C, P>>) -> Self {
        Self { state: State::Calling { future }, spare, kept, course: Course::default(), stripe }
    }
}

impl<S, Req, C, P> Future for ResponseFuture<S, Req, S::Future, C, P>
where
    S: Service<Req>,
    S::Error: Rejectable,
    C: Classify<S::Response, S::Error>,
    P: ReplayRequest<Req>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let Project::Calling { future } = this.state.as_mut().project() else {
                if let Err(error) = ready!(self.as_mut().poll_call_again(cx)) {
                    return Poll::Ready(self.project().course.end(Err(error)));
                }
                continue;
            };
            let result = ready!(future.poll(cx));
            let Stripe { rules, requests } = &**this.stripe;
            let can_replay = |sent| match this.kept.as_ref() {
                Some(kept) if sent => requests.can_replay(kept),
                Some(kept) => requests.can_replay_unsent(kept),
                None => false,
            };
            let Some(wait) = rules.next(&result, this.course, can_replay) else {
                return Poll::Ready(this.course.end(result));
            };
            // Before the wait: what failed may hold a pooled connection, and so may its future.
            drop(result);
            this.state.set(State::waiting(wait));
        }
    }
}

impl<F> State<F> {
    #[cold]
    fn waiting(wait: Duration) -> Self {
        if wait.is_zero() { Self::Yielding } else { Self::Sleeping { sleep: sleep(wait) } }
    }
}

impl<S, Req, C, P> ResponseFuture<S, Req, S::Future, C, P>
where
    S: Service<Req>,
    S::Error: Rejectable,
    P: ReplayRequest<Req>,
{
    /// Waits until the next attempt can be made, and begins it. Apart, so that `poll` is short where all is well.
    #[cold]
    fn poll_call_again(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let mut this = self.project();
        match this.state.as_mut().project() {
            Project::Sleeping { sleep } => {
                ready!(sleep.poll(cx));
                this.state.set(State::Readying);
            }
            // Calls that fail at once would otherwise keep the thread for as long as they are repeated.
            Project::Yielding => {
                this.state.set(State::Readying);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            _ => {}
        }
        let service = this.spare.as_mut().expect("kept together with the request");
        let is_ready = service.poll_ready(cx)?.is_ready();
        // By the clock and not by the timer alone: a readiness that uses up its task's cooperative budget at every poll
        // would keep the timer from being looked at.
        let too_late = Deadline::has_expired();
        if !is_ready && !too_late {
            ready!(poll_deadline(this.state.as_mut(), cx));
        }
        if !is_ready || too_late {
            let rejected = this.stripe.rules.origin.reject(Reason::DeadlineExceeded);
            return Poll::Ready(Err(rejected.into()));
        }
        let request = this.kept.take().expect("asked for before the retry was counted");
        let Stripe { rules, requests } = &**this.stripe;
        if this.course.retried() < rules.retries {
            *this.kept = requests.replay(&request);
        }
        let future = service.call(request);
        this.state.set(State::Calling { future });
        Poll::Ready(Ok(()))
    }
}

/// Waits, while the spare is not ready, until the deadline that surrounds the call now.
fn poll_deadline<F>(mut state: Pin<&mut State<F>>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(deadline) = Deadline::current().map(Deadline::instant) else {
        state.set(State::Readying);
        return Poll::Pending;
    };
    match state.as_mut().project() {
        Project::ReadyingUntil { deadline: sleep } if sleep.deadline() == deadline => {}
        _ => state.set(State::ReadyingUntil { deadline: sleep_until(deadline) }),
    }
    match state.project() {
        Project::ReadyingUntil { deadline } => deadline.poll(cx),
        _ => unreachable!("it was set"),
    }
}
