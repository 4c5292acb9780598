use std::{
    error::Error,
    fmt,
    future::{Ready, ready},
    marker::PhantomData,
    task::{Context, Poll},
};

use buttress_core::{Rejectable, Rejected};
use tower::{BoxError, Service};

/// The backend's own error. It has no size, so that boxing it allocates nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the backend is broken")
    }
}

impl Error for Broken {}

/// A user's own error type, which a rejection enters without being boxed.
#[derive(Debug)]
pub(crate) enum Failure {
    Backend,
    Rejected(Rejected),
}

impl From<Broken> for Failure {
    fn from(_: Broken) -> Self {
        Self::Backend
    }
}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Failure {
    fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Backend => None,
            Self::Rejected(rejected) => Some(rejected),
        }
    }
}

/// Which calls a backend fails. The request's number alone decides: a counter kept by the service would stand still in
/// layers that call a clone.
pub(crate) trait Fails: Send + 'static {
    fn fails(request: u64) -> bool;
}

pub(crate) enum Never {}
pub(crate) enum EveryHundredth {}
pub(crate) enum Always {}

impl Fails for Never {
    fn fails(_: u64) -> bool {
        false
    }
}

impl Fails for EveryHundredth {
    fn fails(request: u64) -> bool {
        request % 100 == 99
    }
}

impl Fails for Always {
    fn fails(_: u64) -> bool {
        true
    }
}

/// A service that is always ready and answers at once, so that a call costs what the layer around it costs.
pub(crate) struct Backend<F, E = BoxError>(PhantomData<fn() -> (F, E)>);

pub(crate) const HEALTHY: Backend<Never> = Backend::new();
pub(crate) const FLAKY: Backend<EveryHundredth> = Backend::new();
pub(crate) const DOWN: Backend<Always> = Backend::new();

impl<F, E> Backend<F, E> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<F, E> Clone for Backend<F, E> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<F: Fails, E: From<Broken>> Service<u64> for Backend<F, E> {
    type Response = u64;
    type Error = E;
    type Future = Ready<Result<u64, E>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), E>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u64) -> Self::Future {
        ready(if F::fails(request) { Err(Broken.into()) } else { Ok(request) })
    }
}
