use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Classify, Rejectable};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
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
        Readying,
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
            let can_replay = || this.kept.as_ref().is_some_and(|kept| requests.can_replay(kept));
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
        if wait.is_zero() { Self::Readying } else { Self::Sleeping { sleep: sleep(wait) } }
    }
}

impl<S, Req, C, P> ResponseFuture<S, Req, S::Future, C, P>
where
    S: Service<Req>,
    P: ReplayRequest<Req>,
{
    /// Waits until the next attempt can be made, and begins it. Apart, so that `poll` is short where all is well.
    #[cold]
    fn poll_call_again(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let mut this = self.project();
        if let Project::Sleeping { sleep } = this.state.as_mut().project() {
            ready!(sleep.poll(cx));
            this.state.set(State::Readying);
        }
        let service = this.spare.as_mut().expect("kept together with the request");
        ready!(service.poll_ready(cx))?;
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
