use std::{
    convert::Infallible,
    fmt, mem,
    pin::Pin,
    task::{Context, Poll},
};

use buttress_core::Reason;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    Criticality, Queue,
    limiter::Inner,
    permit::Admitted,
    ticket::{Door, Ticket},
};

/// What becomes of a call that finds no permit: [`Reject`] or [`Queue`]. It cannot be implemented outside of this crate.
#[expect(private_interfaces, private_bounds, reason = "it is sealed")]
pub trait WhenFull<S: Service<Req>, Req>: sealed::Sealed {
    /// What a call that waits holds.
    type Waiting: Wait<S::Future>;

    /// Whether a call is refused that finds no permit, so that it need not wait for the service to be ready.
    #[doc(hidden)]
    const REFUSES: bool;

    /// Takes a permit for the request, or lets it wait together with the service that was polled ready for it.
    #[doc(hidden)]
    fn enter(
        &self,
        inner: &'static Inner,
        level: impl FnOnce(&Req) -> Criticality,
        service: &mut S,
        request: Req,
    ) -> Entered<Req, Self::Waiting>;
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Entered<Req, W> {
    Admitted(Admitted, Req),
    Waiting(W),
    Refused(Reason),
}

/// A call that waits, until it can begin.
pub(crate) trait Wait<F> {
    fn poll_begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(F, Admitted), Reason>>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Reject {}
    impl Sealed for super::Queue {}
}

/// Refuses a call at once where no permit is free. The default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reject;

#[expect(private_interfaces, reason = "it is sealed")]
impl<S: Service<Req>, Req> WhenFull<S, Req> for Reject {
    type Waiting = Infallible;

    const REFUSES: bool = true;

    #[inline]
    fn enter(
        &self,
        inner: &'static Inner,
        level: impl FnOnce(&Req) -> Criticality,
        _: &mut S,
        request: Req,
    ) -> Entered<Req, Infallible> {
        match inner.admit(|| level(&request)) {
            Ok(admitted) => Entered::Admitted(admitted, request),
            Err(reason) => Entered::Refused(reason),
        }
    }
}

impl<F> Wait<F> for Infallible {
    fn poll_begin(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(F, Admitted), Reason>> {
        match *self {}
    }
}

#[expect(private_interfaces, reason = "it is sealed")]
impl<S: Service<Req> + Clone, Req> WhenFull<S, Req> for Queue {
    type Waiting = Waiting<S, Req>;

    const REFUSES: bool = false;

    #[inline]
    fn enter(
        &self,
        inner: &'static Inner,
        level: impl FnOnce(&Req) -> Criticality,
        service: &mut S,
        request: Req,
    ) -> Entered<Req, Waiting<S, Req>> {
        match Ticket::draw(inner, || level(&request), *self) {
            Door::Open(admitted) => Entered::Admitted(admitted, request),
            Door::Shut(reason) => Entered::Refused(reason),
            Door::Wait(ticket) => {
                // The one that was polled ready is the one that will be called.
                let clone = service.clone();
                let service = mem::replace(service, clone);
                Entered::Waiting(Waiting { ticket, service, request: Some(request) })
            }
        }
    }
}

pin_project! {
    /// A call that waits for its permit, with its request and the service that was polled ready for it.
    #[must_use = "futures do nothing unless polled"]
    pub struct Waiting<S, Req> {
        ticket: Ticket,
        service: S,
        request: Option<Req>,
    }
}

impl<S: Service<Req>, Req> Wait<S::Future> for Waiting<S, Req> {
    fn poll_begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(S::Future, Admitted), Reason>> {
        let this = self.project();
        this.ticket.poll(cx).map(|turn| {
            let admitted = turn?;
            let request = this.request.take().expect("it begins once");
            Ok((this.service.call(request), admitted))
        })
    }
}

impl<S, Req> fmt::Debug for Waiting<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
