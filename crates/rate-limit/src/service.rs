use std::{
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::Rejected;
use tower_service::Service;

use crate::{
    ByKey, Everybody, Keyed, KeyedRateLimiter, One, RateLimiter, Reject, ResponseFuture, Weigh, WhenLimited,
    clock, inner::Inner, when_limited::Entered,
};

/// A service behind rate limits: made by [`RateLimitLayer`](crate::RateLimitLayer) and
/// [`KeyedLayer`](crate::KeyedLayer).
#[derive(Debug)]
pub struct RateLimit<S, Q = Reject, W = One, K = Everybody> {
    inner: S,
    limits: Arc<Inner>,
    when_limited: Q,
    weigh: W,
    key: K,
    /// `poll_ready` found nothing left and the service inside not ready: `call` refuses.
    refuses: bool,
}

impl<S, Q, W, K> RateLimit<S, Q, W, K> {
    pub(crate) const fn new(inner: S, limits: Arc<Inner>, when_limited: Q, weigh: W, key: K) -> Self {
        Self { inner, limits, when_limited, weigh, key, refuses: false }
    }
}

impl<S, Q, W> RateLimit<S, Q, W> {
    /// A handle to its limits: the way to them where each service [has its own](crate::Builder::per_service).
    #[must_use]
    pub fn limiter(&self) -> RateLimiter {
        RateLimiter(Arc::clone(&self.limits))
    }
}

impl<S, Q, W, F> RateLimit<S, Q, W, ByKey<F>> {
    /// A handle to its limits.
    #[must_use]
    pub fn limiter(&self) -> KeyedRateLimiter {
        KeyedRateLimiter(Arc::clone(&self.limits))
    }
}

impl<S: Clone, Q: Clone, W: Clone, K: Clone> Clone for RateLimit<S, Q, W, K> {
    fn clone(&self) -> Self {
        // A refusal belongs to the one who polled, and would be old by the time the clone is called.
        Self {
            inner: self.inner.clone(),
            limits: Arc::clone(&self.limits),
            when_limited: self.when_limited.clone(),
            weigh: self.weigh.clone(),
            key: self.key.clone(),
            refuses: false,
        }
    }
}

impl<S, Q, W, K, Req> Service<Req> for RateLimit<S, Q, W, K>
where
    S: Service<Req>,
    S::Error: From<Rejected>,
    Q: WhenLimited<S, Req>,
    W: Weigh<Req>,
    K: Keyed<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Q::Waiting>;

    /// Takes no units. Where calls are refused and not kept waiting, it is ready at once when the service inside is not and
    /// the limits of all calls have nothing left: a refusal does not wait for the backend.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let poll = self.inner.poll_ready(cx);
        if Q::REFUSES {
            self.refuses = poll.is_pending() && self.limits.is_full(clock::now());
            if self.refuses {
                return Poll::Ready(Ok(()));
            }
        }
        poll
    }

    #[inline]
    fn call(&mut self, request: Req) -> Self::Future {
        let whose = self.key.whose(&self.limits, &request);
        let units = self.weigh.units(&request);
        let mut refused = None;
        if !self.refuses && self.limits.places.are_quiet() {
            match self.limits.take_all(whose, units, clock::now()) {
                Ok(()) => return ResponseFuture::running(self.inner.call(request)),
                Err(wait) => refused = Some(wait),
            }
        }
        let entered = if self.refuses {
            self.refuses = false;
            Entered::Refused(self.limits.reject(self.limits.refusal(whose, units)))
        } else {
            self.when_limited.enter(&self.limits, whose, units, refused, &mut self.inner, request)
        };
        ResponseFuture::of(entered, |request| self.inner.call(request))
    }
}
