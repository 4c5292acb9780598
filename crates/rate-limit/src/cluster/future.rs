use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use buttress_core::Rejected;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::cluster::wait::Wait;

pin_project! {
    /// The future of [`Clustered`](crate::cluster::Clustered).
    ///
    /// Dropped while it waits for the store, it takes nothing: what the store gave goes back.
    ///
    /// # Panics
    /// When it has to wait for the store and there is no tokio runtime with a timer, or when it is polled after a
    /// refusal.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req, S::Future>,
    }
}

pin_project! {
    #[project = Project]
    enum State<S, Req, F> {
        Running { #[pin] future: F },
        Later { wait: Option<Pin<Box<Wait>>>, service: S, is_unready: bool, request: Option<Req> },
        Refused { rejected: Option<Rejected> },
    }
}

impl<S: Service<Req>, Req> ResponseFuture<S, Req> {
    #[inline]
    pub(crate) const fn running(future: S::Future) -> Self {
        Self { state: State::Running { future } }
    }

    /// Waits for the limit's decision, where there is none yet, and for the service, where that is not ready.
    #[inline(always)]
    pub(crate) const fn later(
        wait: Option<Pin<Box<Wait>>>,
        service: S,
        is_unready: bool,
        request: Req,
    ) -> Self {
        Self { state: State::Later { wait, service, is_unready, request: Some(request) } }
    }

    #[inline(always)]
    pub(crate) const fn refused(rejected: Rejected) -> Self {
        Self { state: State::Refused { rejected: Some(rejected) } }
    }

    /// Until the call has begun. Out of line: most calls begin at once.
    #[inline(never)]
    fn poll_begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>>
    where
        S::Error: From<Rejected>,
    {
        let mut state = self.project().state;
        let error = match state.as_mut().project() {
            Project::Running { .. } => return Poll::Ready(Ok(())),
            Project::Refused { rejected } => {
                rejected.take().expect("a future is not polled after it is done").into()
            }
            Project::Later { wait, service, is_unready, request } => {
                let verdict = match wait {
                    Some(wait) => ready!(wait.as_mut().poll(cx)),
                    None => Ok(()),
                };
                *wait = None;
                match verdict {
                    Err(rejected) => rejected.into(),
                    Ok(()) => {
                        let ready = if *is_unready { ready!(service.poll_ready(cx)) } else { Ok(()) };
                        match ready {
                            Err(error) => error,
                            Ok(()) => {
                                let request = request.take().expect("it begins once");
                                let future = service.call(request);
                                state.set(State::Running { future });
                                return Poll::Ready(Ok(()));
                            }
                        }
                    }
                }
            }
        };
        // The service and the request that waited are not needed any more.
        state.set(State::Refused { rejected: None });
        Poll::Ready(Err(error))
    }
}

impl<S, Req> Future for ResponseFuture<S, Req>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
{
    type Output = Result<S::Response, S::Error>;

    // Else the compiler leaves it out of line, and each result is copied once more.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Project::Running { future } = self.as_mut().project().state.project() {
                return future.poll(cx);
            }
            if let Err(error) = ready!(self.as_mut().poll_begin(cx)) {
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for ResponseFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Running { .. } => "Running",
            State::Later { .. } => "Later",
            State::Refused { .. } => "Refused",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
