use std::{
    convert::Infallible,
    fmt, mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::Rejected;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    inner::{Gate, Inner},
    machine::Wait as Refusal,
    places::Whose,
    ticket::{Door, Ticket},
};

/// What becomes of a call whose units are not there: [`Reject`] or [`Wait`]. It cannot be implemented outside of this
/// crate.
#[expect(private_interfaces, private_bounds, reason = "it is sealed")]
pub trait WhenLimited<S: Service<Req>, Req>: sealed::Sealed {
    /// What a call that waits holds.
    type Waiting: Begin<S::Future>;

    /// Whether such a call is refused, so that it need not wait for the service to be ready.
    #[doc(hidden)]
    const REFUSES: bool;

    /// Takes units for the request, or lets it wait together with the service that was polled ready for it.
    #[doc(hidden)]
    fn enter(
        &self,
        inner: &Arc<Inner>,
        whose: Whose,
        units: u32,
        refused: Option<Refusal>,
        service: &mut S,
        request: Req,
    ) -> Entered<Req, Self::Waiting>;
}

/// What became of a request.
#[derive(Debug)]
pub(crate) enum Entered<Req, W> {
    Through(Req),
    Waiting(W),
    Refused(Rejected),
}

/// A call that waits, until it can begin.
pub(crate) trait Begin<F> {
    fn poll_begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<F, Rejected>>;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Reject {}
    impl Sealed for super::Wait {}
}

/// Refuses a call at once where its units are not there. The default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reject;

#[expect(private_interfaces, reason = "it is sealed")]
impl<S: Service<Req>, Req> WhenLimited<S, Req> for Reject {
    type Waiting = Infallible;

    const REFUSES: bool = true;

    #[inline(never)]
    fn enter(
        &self,
        inner: &Arc<Inner>,
        whose: Whose,
        units: u32,
        refused: Option<Refusal>,
        _: &mut S,
        request: Req,
    ) -> Entered<Req, Infallible> {
        let wait = match refused {
            Some(wait) => wait,
            None => {
                let now = crate::clock::now();
                match inner.enter(whose, units, now, now) {
                    Gate::Through => return Entered::Through(request),
                    Gate::Refused(wait) => wait,
                    Gate::Waits(_) => unreachable!("it may not wait"),
                }
            }
        };
        Entered::Refused(inner.reject(wait))
    }
}

impl<F> Begin<F> for Infallible {
    fn poll_begin(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<F, Rejected>> {
        match *self {}
    }
}

/// Lets a call wait for its units, for so long at most. The service inside must be `Clone`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait(pub(crate) Duration);

#[expect(private_interfaces, reason = "it is sealed")]
impl<S: Service<Req> + Clone, Req> WhenLimited<S, Req> for Wait {
    type Waiting = Waiting<S, Req>;

    const REFUSES: bool = false;

    #[inline(never)]
    fn enter(
        &self,
        inner: &Arc<Inner>,
        whose: Whose,
        units: u32,
        _: Option<Refusal>,
        service: &mut S,
        request: Req,
    ) -> Entered<Req, Waiting<S, Req>> {
        match Ticket::draw(inner, whose, units, self.0) {
            Door::Open => Entered::Through(request),
            Door::Shut(rejected) => Entered::Refused(rejected),
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
    /// A call that waits for its units, with its request and the service that was polled ready for it.
    #[must_use = "futures do nothing unless polled"]
    pub struct Waiting<S, Req> {
        ticket: Ticket,
        service: S,
        request: Option<Req>,
    }
}

impl<S: Service<Req>, Req> Begin<S::Future> for Waiting<S, Req> {
    fn poll_begin(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<S::Future, Rejected>> {
        let this = self.project();
        this.ticket.poll(cx).map(|turn| {
            turn?;
            let request = this.request.take().expect("it begins once");
            Ok(this.service.call(request))
        })
    }
}

impl<S, Req> fmt::Debug for Waiting<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
