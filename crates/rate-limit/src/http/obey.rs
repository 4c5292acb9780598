use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{Obeys, Restriction, Restrictions, Subjects};

/// Has a client's limiter hold back as the server's responses ask.
///
/// It stands inside of that limiter's own layer, around an HTTP client, and sees every response; it neither changes nor
/// delays one. See the [module's documentation](super).
#[derive(Debug, Clone)]
pub struct ObeyLayer<L> {
    limiter: L,
    longest: Duration,
}

impl<L> ObeyLayer<L> {
    /// Has that limiter obey, each time for at most an hour.
    #[must_use]
    pub const fn new(limiter: L) -> Self {
        Self { limiter, longest: Duration::from_secs(3_600) }
    }

    /// How long it obeys at most what one response asks: a server that is broken or hostile does not close a client for
    /// ever. Default: an hour. With zero it obeys nothing.
    #[must_use]
    pub const fn longest(mut self, time: Duration) -> Self {
        self.longest = time;
        self
    }
}

impl<S, L: Clone> Layer<S> for ObeyLayer<L> {
    type Service = Obey<S, L>;

    fn layer(&self, inner: S) -> Self::Service {
        Obey { inner, layer: self.clone() }
    }
}

/// The service of [`ObeyLayer`].
#[derive(Debug, Clone)]
pub struct Obey<S, L> {
    inner: S,
    layer: ObeyLayer<L>,
}

impl<S, L, Req, B> Service<Req> for Obey<S, L>
where
    S: Service<Req, Response = Response<B>>,
    L: Obeys + Subjects<Req, Subject = <L as Obeys>::Subject> + Clone,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ObeyFuture<S::Future, L>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let layer = self.layer.clone();
        let subject = layer.limiter.subject(&request);
        ObeyFuture { future: self.inner.call(request), layer, subject }
    }
}

pin_project! {
    /// The future of [`Obey`]. Where it is dropped unfinished, nothing was asked.
    #[must_use = "futures do nothing unless polled"]
    pub struct ObeyFuture<F, L: Obeys> {
        #[pin]
        future: F,
        layer: ObeyLayer<L>,
        subject: L::Subject,
    }
}

impl<F, L: Obeys> fmt::Debug for ObeyFuture<F, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObeyFuture").field("longest", &self.layer.longest).finish_non_exhaustive()
    }
}

impl<F, L, B, E> Future for ObeyFuture<F, L>
where
    F: Future<Output = Result<Response<B>, E>>,
    L: Obeys,
{
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        if let Ok(response) = &result {
            for Restriction { units, time } in Restrictions::of(response.status(), response.headers()) {
                if !this.layer.longest.is_zero() {
                    this.layer.limiter.restrict(this.subject, units, time.min(this.layer.longest));
                }
            }
        }
        Poll::Ready(result)
    }
}
