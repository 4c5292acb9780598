use std::{
    convert::Infallible,
    future::Future,
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
pub struct Respond<L, A = Plain> {
    layers: L,
    answer: A,
}

impl<L> Respond<L> {
    /// Answers with the response's own `From<Rejected>`.
    pub const fn new(layers: L) -> Self {
        Self { layers, answer: Plain }
    }
}

impl<L, A> Respond<L, A> {
    /// Answers with this function.
    pub const fn with(layers: L, answer: A) -> Self {
        Self { layers, answer }
    }
}

impl<S, L, A> Layer<S> for Respond<L, A>
where
    L: Layer<Fallible<S>>,
    A: Clone,
{
    type Service = Responding<L::Service, A>;

    fn layer(&self, inner: S) -> Self::Service {
        Responding { inner: self.layers.layer(Fallible(inner)), answer: self.answer.clone(), refused: None }
    }
}

/// Turns a rejection into a response: any function of that shape, or [`Plain`].
pub trait Answer<Res> {
    /// Makes the response.
    fn answer(&self, rejected: Rejected) -> Res;
}

/// Answers with the response's own `From<Rejected>`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Plain;

impl<Res: From<Rejected>> Answer<Res> for Plain {
    fn answer(&self, rejected: Rejected) -> Res {
        rejected.into()
    }
}

impl<F: Fn(Rejected) -> Res, Res> Answer<Res> for F {
    fn answer(&self, rejected: Rejected) -> Res {
        self(rejected)
    }
}

/// An infallible service whose error type has room for a rejection.
#[derive(Debug, Clone, Copy)]
pub struct Fallible<S>(S);

impl<S, Req> Service<Req> for Fallible<S>
where
    S: Service<Req, Error = Infallible>,
{
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
    A: Answer<S::Response> + Clone,
{
    type Response = S::Response;
    type Error = Infallible;
    type Future = RespondFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.refused.is_none()
            && let Err(rejected) = ready!(self.inner.poll_ready(cx))
        {
            self.refused = Some(rejected);
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let answer = self.answer.clone();
        let state = match self.refused.take() {
            None => State::Running { future: self.inner.call(request) },
            rejected => State::Refused { rejected },
        };
        RespondFuture { state, answer }
    }
}

pin_project! {
    /// The future of [`Responding`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct RespondFuture<F, A> {
        #[pin]
        state: State<F>,
        answer: A,
    }
}

pin_project! {
    #[project = StateProject]
    #[derive(Debug)]
    enum State<F> {
        Running { #[pin] future: F },
        Refused { rejected: Option<Rejected> },
    }
}

impl<F, A, Res> Future for RespondFuture<F, A>
where
    F: Future<Output = Result<Res, Rejected>>,
    A: Answer<Res>,
{
    type Output = Result<Res, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = match this.state.project() {
            StateProject::Running { future } => ready!(future.poll(cx)),
            StateProject::Refused { rejected } => Err(rejected.take().expect("polled after it was done")),
        };
        Poll::Ready(Ok(result.unwrap_or_else(|rejected| this.answer.answer(rejected))))
    }
}

pin_project! {
    /// The future of [`Fallible`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct FallibleFuture<F> {
        #[pin]
        future: F,
    }
}

impl<F, Res> Future for FallibleFuture<F>
where
    F: Future<Output = Result<Res, Infallible>>,
{
    type Output = Result<Res, Rejected>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().future.poll(cx).map_err(|never| match never {})
    }
}
