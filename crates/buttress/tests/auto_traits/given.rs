//! What generic types are asserted with.

use std::{
    error::Error,
    fmt::Debug,
    future::{Ready, ready},
    panic::{RefUnwindSafe, UnwindSafe},
    task::{Context, Poll},
};

use tower::Service;

pub(crate) use buttress::core::{BoxError, ByError};

pub(crate) type Req = u32;
pub(crate) type Fut = Ready<Result<(), BoxError>>;
pub(crate) type HttpFut = Ready<Result<::http::Response<()>, BoxError>>;
/// A key, a weight, a priority: what is asked of a request.
pub(crate) type OfRequest = fn(&Req) -> Req;

/// A service of whatever is asked, that is all that a service can be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Svc;

impl<Req> Service<Req> for Svc {
    type Response = ();
    type Error = BoxError;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Req) -> Fut {
        ready(Ok(()))
    }
}

pub(crate) type ManyFut = Ready<Result<Vec<Result<(), BoxError>>, BoxError>>;

/// A service of many requests at once, as batches ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Many;

impl Service<Vec<Req>> for Many {
    type Response = Vec<Result<(), BoxError>>;
    type Error = BoxError;
    type Future = ManyFut;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, requests: Vec<Req>) -> ManyFut {
        ready(Ok(requests.into_iter().map(|_| Ok(())).collect()))
    }
}

/// What is given out and kept: also across a panic that somebody catches.
pub(crate) fn values<T: Debug + Clone + Send + Sync + Unpin + UnwindSafe + RefUnwindSafe + 'static>() {}

/// Layers, services, and whatever else is cloned to share a state.
pub(crate) fn handles<T: Debug + Clone + Send + Sync + Unpin + 'static>() {}

/// What there is one of.
pub(crate) fn owned<T: Debug + Send + Sync + Unpin>() {}

/// What goes into a `Box<dyn Error + Send + Sync>`, and so through `?`.
pub(crate) fn errors<T: Error + Send + Sync + Unpin + 'static>() {}

/// What a task can be spawned of.
pub(crate) fn futures<T: Debug + Future + Send + Sync + 'static>() {}

/// Those of a boxed service, of which no more is known than that they are `Send`.
pub(crate) fn send_futures<T: Debug + Future + Send + 'static>() {}

/// What holds a closure or a stream of the user's that only has to be `Send`.
pub(crate) fn send_only<T: Debug + Send + 'static>() {}
