//! Layers that break one rule each.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready as poll_ready};
use std::time::Duration;

use buttress_testkit::probe::{BoxError, Probed, ProbedFuture, ready};
use tower::{Layer, Service};

type Boxed = Pin<Box<dyn Future<Output = Result<u32, BoxError>>>>;

/// A layer and the service that it makes, which differ only in `poll_ready` and `call`.
macro_rules! wrong {
    ($(#[$doc:meta])* $layer:ident, $service:ident, |$inner:ident| $new:expr) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub(crate) struct $layer;

        impl Layer<Probed> for $layer {
            type Service = $service;
            fn layer(&self, $inner: Probed) -> $service {
                $new
            }
        }
    };
}

wrong!(
    /// Says that it is ready without asking.
    SkipsReadiness, Skipping, |inner| Skipping { inner }
);
#[derive(Clone)]
pub(crate) struct Skipping {
    inner: Probed,
}
impl Service<u32> for Skipping {
    type Response = u32;
    type Error = BoxError;
    type Future = ProbedFuture;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: u32) -> ProbedFuture {
        self.inner.call(request)
    }
}

wrong!(
    /// Polls one service ready and calls another.
    CallsAClone, Cloning, |inner| Cloning { inner }
);
#[derive(Clone)]
pub(crate) struct Cloning {
    inner: Probed,
}
impl Service<u32> for Cloning {
    type Response = u32;
    type Error = BoxError;
    type Future = ProbedFuture;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }
    fn call(&mut self, request: u32) -> ProbedFuture {
        self.inner.clone().call(request)
    }
}

wrong!(
    /// Remembers that it is ready, and its clone remembers it too.
    ClonesReadiness, Remembering, |inner| Remembering { inner, is_ready: false }
);
#[derive(Clone)]
pub(crate) struct Remembering {
    inner: Probed,
    is_ready: bool,
}
impl Service<u32> for Remembering {
    type Response = u32;
    type Error = BoxError;
    type Future = ProbedFuture;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if !self.is_ready {
            poll_ready!(self.inner.poll_ready(cx))?;
            self.is_ready = true;
        }
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, request: u32) -> ProbedFuture {
        self.is_ready = false;
        self.inner.call(request)
    }
}

wrong!(
    /// Rejects everything.
    NeverCalls, Rejecting, |inner| Rejecting { _inner: inner }
);
#[derive(Clone)]
pub(crate) struct Rejecting {
    _inner: Probed,
}
impl Service<u32> for Rejecting {
    type Response = u32;
    type Error = BoxError;
    type Future = std::future::Ready<Result<u32, BoxError>>;
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }
    fn call(&mut self, _: u32) -> Self::Future {
        std::future::ready(Err("rejected".into()))
    }
}

wrong!(
    /// Its ready service outlives it.
    KeepsReadiness, Keeping, |inner| Keeping { inner: Some(inner) }
);
#[derive(Clone)]
pub(crate) struct Keeping {
    inner: Option<Probed>,
}
impl Service<u32> for Keeping {
    type Response = u32;
    type Error = BoxError;
    type Future = ProbedFuture;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.as_mut().unwrap().poll_ready(cx)
    }
    fn call(&mut self, request: u32) -> ProbedFuture {
        self.inner.as_mut().unwrap().call(request)
    }
}
impl Drop for Keeping {
    fn drop(&mut self) {
        std::mem::forget(self.inner.take());
    }
}

wrong!(
    /// Runs the call in a task that nobody ends, and makes an error of its panic.
    Spawns, Spawning, |inner| Spawning { inner }
);
#[derive(Clone)]
pub(crate) struct Spawning {
    inner: Probed,
}
impl Service<u32> for Spawning {
    type Response = u32;
    type Error = BoxError;
    type Future = Boxed;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }
    fn call(&mut self, request: u32) -> Boxed {
        let task = tokio::spawn(self.inner.call(request));
        Box::pin(async move { task.await? })
    }
}

wrong!(
    /// Honest, though every service has a limit of its own.
    PerService, Limited, |inner| Limit::mended(1).layer(inner)
);

wrong!(
    /// Honest: tries once more after a pause.
    Retries, Retrying, |inner| Retrying { inner }
);
#[derive(Clone)]
pub(crate) struct Retrying {
    inner: Probed,
}
impl Service<u32> for Retrying {
    type Response = u32;
    type Error = BoxError;
    type Future = Boxed;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }
    fn call(&mut self, request: u32) -> Boxed {
        let mut again = self.inner.clone();
        let first = self.inner.call(request);
        Box::pin(async move {
            if let Ok(reply) = first.await {
                return Ok(reply);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
            ready(&mut again).await?;
            again.call(request).await
        })
    }
}

/// Holds a lock while it calls.
#[derive(Clone, Default)]
pub(crate) struct Poisons {
    calls: Arc<Mutex<u32>>,
}
#[derive(Clone)]
pub(crate) struct Poisoned {
    inner: Probed,
    calls: Arc<Mutex<u32>>,
}
impl Layer<Probed> for Poisons {
    type Service = Poisoned;
    fn layer(&self, inner: Probed) -> Poisoned {
        Poisoned { inner, calls: Arc::clone(&self.calls) }
    }
}
impl Service<u32> for Poisoned {
    type Response = u32;
    type Error = BoxError;
    type Future = ProbedFuture;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }
    fn call(&mut self, request: u32) -> ProbedFuture {
        let mut calls = self.calls.lock().unwrap();
        *calls += 1;
        self.inner.call(request)
    }
}

/// A home-made limit that counts permits by hand, and forgets to at one place.
#[derive(Clone)]
pub(crate) struct Limit {
    permits: Permits,
    leak: Leak,
}
#[derive(Clone, Copy, PartialEq)]
enum Leak {
    Nowhere,
    OnReadiness,
    OnDrop,
}
#[derive(Clone)]
pub(crate) struct Permits(Arc<Mutex<(usize, VecDeque<Waker>)>>);
impl Permits {
    pub(crate) fn available(&self) -> usize {
        self.0.lock().unwrap().0
    }
    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut permits = self.0.lock().unwrap();
        if permits.0 == 0 {
            permits.1.push_back(cx.waker().clone());
            return Poll::Pending;
        }
        permits.0 -= 1;
        Poll::Ready(())
    }
    fn give(&self) {
        let mut permits = self.0.lock().unwrap();
        permits.0 += 1;
        permits.1.drain(..).for_each(Waker::wake);
    }
}
impl Limit {
    fn new(limit: usize, leak: Leak) -> Self {
        Self { permits: Permits(Arc::new(Mutex::new((limit, VecDeque::new())))), leak }
    }
    pub(crate) fn mended(limit: usize) -> Self {
        Self::new(limit, Leak::Nowhere)
    }
    pub(crate) fn leaks_on_readiness(limit: usize) -> Self {
        Self::new(limit, Leak::OnReadiness)
    }
    pub(crate) fn leaks_on_drop(limit: usize) -> Self {
        Self::new(limit, Leak::OnDrop)
    }
    pub(crate) fn permits(&self) -> Permits {
        self.permits.clone()
    }
}
impl Layer<Probed> for Limit {
    type Service = Limited;
    fn layer(&self, inner: Probed) -> Limited {
        Limited { inner, limit: self.clone(), has_permit: false }
    }
}
pub(crate) struct Limited {
    inner: Probed,
    limit: Limit,
    has_permit: bool,
}
impl Clone for Limited {
    fn clone(&self) -> Self {
        self.limit.layer(self.inner.clone())
    }
}
impl Drop for Limited {
    fn drop(&mut self) {
        if self.has_permit && self.limit.leak != Leak::OnReadiness {
            self.limit.permits.give();
        }
    }
}
impl Service<u32> for Limited {
    type Response = u32;
    type Error = BoxError;
    type Future = LimitedFuture;
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if !self.has_permit {
            poll_ready!(self.limit.permits.poll_take(cx));
            self.has_permit = true;
        }
        self.inner.poll_ready(cx)
    }
    fn call(&mut self, request: u32) -> LimitedFuture {
        // Before the call, which may panic: the permit then stays with the service, which gives it back.
        let call = self.inner.call(request);
        self.has_permit = false;
        LimitedFuture { call, limit: self.limit.clone(), given_back: false }
    }
}
pub(crate) struct LimitedFuture {
    call: ProbedFuture,
    limit: Limit,
    given_back: bool,
}
impl Future for LimitedFuture {
    type Output = Result<u32, BoxError>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = poll_ready!(Pin::new(&mut self.call).poll(cx));
        self.given_back = true;
        self.limit.permits.give();
        Poll::Ready(reply)
    }
}
impl Drop for LimitedFuture {
    fn drop(&mut self) {
        if !self.given_back && self.limit.leak != Leak::OnDrop {
            self.limit.permits.give();
        }
    }
}
