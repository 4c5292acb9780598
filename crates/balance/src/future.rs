use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Classify, Origin, Reason, Rejectable};
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    admitted::Admitted,
    elsewhere::elsewhere,
    pool::{Discovering, Pool},
    waiting::{Ended, Waiting},
};

pin_project! {
    /// The future of [`Balance`](crate::Balance).
    ///
    /// Dropped unfinished, it drops the endpoint's call and is not counted as pending there any more. That it took longer
    /// than expected until then is remembered.
    ///
    /// # Panics
    /// When it has to wait for an endpoint and there is no tokio runtime with a timer; or when it is polled after its end.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<K, S, F, Req, C> {
        #[pin]
        step: Step<K, S, F>,
        request: Option<Req>,
        key: Option<u64>,
        origin: Origin,
        classify: C,
    }
}

pin_project! {
    #[project = Project]
    enum Step<K, S, F> {
        Chosen { admitted: Option<Admitted<K, S>>, service: Option<S> },
        Waiting { waiting: Pin<Box<Waiting<K, S>>> },
        Running { admitted: Admitted<K, S>, #[pin] future: F },
        Ended,
    }
}

impl<K, S, F, Req, C> ResponseFuture<K, S, F, Req, C> {
    #[inline]
    pub(crate) const fn chosen(
        admitted: Admitted<K, S>,
        service: S,
        request: Req,
        key: Option<u64>,
        origin: Origin,
        classify: C,
    ) -> Self {
        let step = Step::Chosen { admitted: Some(admitted), service: Some(service) };
        Self { step, request: Some(request), key, origin, classify }
    }

    #[cold]
    pub(crate) fn waiting(
        pool: Arc<Pool<K, S>>,
        request: Req,
        key: Option<u64>,
        classify: C,
        discovery: Option<Discovering>,
    ) -> Self {
        let origin = pool.settings.origin;
        let step = Step::Waiting { waiting: Waiting::new(pool, key, None, discovery) };
        Self { step, request: Some(request), key, origin, classify }
    }
}

impl<K, S, Req, C> ResponseFuture<K, S, S::Future, Req, C>
where
    S: Service<Req> + Clone,
    S::Error: Rejectable,
    C: Classify<S::Response, S::Error>,
{
    /// Until the call has begun.
    #[inline]
    fn poll_begin(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        loop {
            let mut this = self.as_mut().project();
            let (mut admitted, mut service) = match this.step.as_mut().project() {
                Project::Running { .. } => return Poll::Ready(Ok(())),
                Project::Chosen { admitted, service } => {
                    let (asked, inner) =
                        admitted.as_mut().zip(service.as_mut()).expect("they are taken once");
                    let ready = asked.ask(|| inner.poll_ready(cx));
                    let at_hand = admitted.take().zip(service.take()).expect("they are taken once");
                    match ready {
                        Poll::Ready(Ok(())) if !at_hand.0.member().state.is_removed() => at_hand,
                        Poll::Ready(Err(error)) => {
                            this.step.set(Step::Ended);
                            return Poll::Ready(Err(failed(at_hand.0, &*this.classify, error)));
                        }
                        _ => match at_hand.0.member().pool.upgrade() {
                            Some(pool) => {
                                self.as_mut().wait(pool, at_hand);
                                continue;
                            }
                            // The balancer is gone: this endpoint is all there is.
                            None if ready.is_pending() => {
                                let (admitted, service) = (Some(at_hand.0), Some(at_hand.1));
                                this.step.set(Step::Chosen { admitted, service });
                                return Poll::Pending;
                            }
                            None => return Poll::Ready(Err(self.refuse(Reason::NoEndpoint))),
                        },
                    }
                }
                Project::Waiting { waiting } => match ready!(waiting.as_mut().poll_ready(cx)) {
                    Ok(at_hand) => at_hand,
                    Err(Ended::Refused(reason)) => return Poll::Ready(Err(self.refuse(reason))),
                    Err(Ended::NotReady(admitted, error)) => {
                        this.step.set(Step::Ended);
                        return Poll::Ready(Err(failed(admitted, &*this.classify, error)));
                    }
                },
                Project::Ended => panic!("the future of a balanced call was polled after its end"),
            };
            let request = this.request.take().expect("it is sent once");
            let future = admitted.send(|| service.call(request));
            this.step.set(Step::Running { admitted, future });
            return Poll::Ready(Ok(()));
        }
    }

    /// Waits for whichever endpoint is ready first.
    #[cold]
    fn wait(self: Pin<&mut Self>, pool: Arc<Pool<K, S>>, (admitted, service): (Admitted<K, S>, S)) {
        let mut this = self.project();
        let asked = Some((Arc::clone(admitted.member()), service));
        let waiting = Waiting::new(pool, *this.key, asked, None);
        this.step.set(Step::Waiting { waiting });
    }

    #[cold]
    fn refuse(self: Pin<&mut Self>, reason: Reason) -> S::Error {
        let mut this = self.project();
        this.step.set(Step::Ended);
        this.origin.reject(reason).into()
    }
}

/// An endpoint that fails instead of being ready has failed.
#[cold]
fn failed<K, S, C, Res, Err>(mut admitted: Admitted<K, S>, classify: &C, error: Err) -> Err
where
    C: Classify<Res, Err>,
    Err: Rejectable,
{
    let result = Err(error);
    admitted.finish(classify, &result);
    match elsewhere(result, admitted.member()) {
        Ok(_) => unreachable!("it is an error"),
        Err(error) => error,
    }
}

impl<K, S, F, Req, C> fmt::Debug for ResponseFuture<K, S, F, Req, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl<K, S, Req, C> Future for ResponseFuture<K, S, S::Future, Req, C>
where
    S: Service<Req> + Clone,
    S::Error: Rejectable,
    C: Classify<S::Response, S::Error>,
{
    type Output = Result<S::Response, S::Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            if let Project::Running { admitted, future } = this.step.as_mut().project() {
                let result = ready!(admitted.send(|| future.poll(cx)));
                admitted.finish(&*this.classify, &result);
                let result = elsewhere(result, admitted.member());
                this.step.set(Step::Ended);
                return Poll::Ready(result);
            }
            if let Err(error) = ready!(self.as_mut().poll_begin(cx)) {
                return Poll::Ready(Err(error));
            }
        }
    }
}
