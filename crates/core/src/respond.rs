use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::Rejected;

/// Runs fallible layers over an infallible service, such as an axum `Router`, by turning their [`Rejected`] into a
/// response.
///
/// The response is made by its own `From<Rejected>` ([`new`](Self::new)), which `http::Response` has with the feature
/// `http`, or by a function ([`with`](Self::with)).
#[derive(Debug, Clone, Copy)]
pub struct Respond<L, A> {
    layers: L,
    answer: A,
}

impl<L, Res: From<Rejected>> Respond<L, fn(Rejected) -> Res> {
    /// Answers with the response's own `From<Rejected>`.
    pub fn new(layers: L) -> Self {
        Self { layers, answer: Res::from }
    }
}

impl<L, A> Respond<L, A> {
    /// Answers with what this function makes of the rejection.
    pub const fn with(layers: L, answer: A) -> Self {
        Self { layers, answer }
    }
}

impl<S, L: Layer<Fallible<S>>, A: Clone> Layer<S> for Respond<L, A> {
    type Service = Responding<L::Service, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Responding { inner: self.layers.layer(Fallible(inner)), answer: self.answer.clone(), refused: None }
    }
}

/// An infallible service whose error type has room for a rejection.
#[derive(Debug, Clone, Copy)]
pub struct Fallible<S>(S);

impl<S: Service<Req, Error = Infallible>, Req> Service<Req> for Fallible<S> {
    type Response = S::Response;
    type Error = Rejected;
    type Future = FallibleFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejected>> {
        self.0.poll_ready(cx).map_err(|never| match never {})
    }

    fn call(&mut self, request: Req) -> Self::Future {
        FallibleFuture { future: self.0.call(request) }
    }
}

pin_project! {
    /// The future of [`Fallible`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct FallibleFuture<F> { #[pin] future: F }
}

impl<F: Future<Output = Result<Res, Infallible>>, Res> Future for FallibleFuture<F> {
    type Output = Result<Res, Rejected>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_err(|never| match never {})
    }
}

/// The service of [`Respond`].
#[derive(Debug)]
pub struct Responding<S, A> {
    inner: S,
    answer: A,
    refused: Option<Rejected>,
}

impl<S: Clone, A: Clone> Clone for Responding<S, A> {
    fn clone(&self) -> Self {
        // A refusal belongs to the one who polled this service.
        Self { inner: self.inner.clone(), answer: self.answer.clone(), refused: None }
    }
}

impl<S, A, Req> Service<Req> for Responding<S, A>
where
    S: Service<Req, Error = Rejected>,
    A: Fn(Rejected) -> S::Response + Clone,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = RespondFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.refused.is_none() {
            self.refused = ready!(self.inner.poll_ready(cx)).err();
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let rejected = self.refused.take();
        let running = rejected.is_none().then(|| self.inner.call(request));
        RespondFuture { running, rejected, answer: self.answer.clone() }
    }
}

pin_project! {
    /// The future of [`Responding`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RespondFuture<F, A> { #[pin] running: Option<F>, rejected: Option<Rejected>, answer: A }
}

impl<F, A, Res> Future for RespondFuture<F, A>
where
    F: Future<Output = Result<Res, Rejected>>,
    A: Fn(Rejected) -> Res,
{
    type Output = Result<Res, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = match this.running.as_pin_mut() {
            Some(future) => ready!(future.poll(cx)),
            None => Err(this.rejected.take().expect("a future is not polled after it is done")),
        };
        Poll::Ready(Ok(result.unwrap_or_else(this.answer)))
    }
}
