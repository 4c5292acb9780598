use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use buttress_core::{Deadline, Reason};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use crate::{
    admitted::Admitted,
    config::Nanos,
    member::Member,
    pool::{Discovering, Discovery, Pool},
    sync::Listening,
};

/// For at most so many endpoints a call waits at the same time.
const SEATS: usize = 32;

pin_project! {
    /// A call that found no endpoint, or one that was not ready: it takes the first that is.
    pub(crate) struct Waiting<K, S> {
        pool: Arc<Pool<K, S>>,
        key: Option<u64>,
        seats: Vec<Seat<K, S>>,
        seated: bool,
        began: Instant,
        // It goes on for a call that is all that is left of the balancer.
        _discovery: Option<Discovering>,
        #[pin]
        changed: Listening,
        #[pin]
        timer: Option<Sleep>,
    }
}

/// A clone that waits to be ready.
struct Seat<K, S> {
    member: Arc<Member<K, S>>,
    service: S,
}

/// Why a call that waited was not sent.
pub(crate) enum Ended<K, S, E> {
    Refused(Reason),
    NotReady(Admitted<K, S>, E),
}

impl<K, S> Waiting<K, S> {
    /// With what is at hand already: an endpoint that was asked and is not ready.
    pub(crate) fn new(
        pool: Arc<Pool<K, S>>,
        key: Option<u64>,
        asked: Option<(Arc<Member<K, S>>, S)>,
        discovery: Option<Discovering>,
    ) -> Pin<Box<Self>> {
        if asked.is_some() || pool.view().discovery == Discovery::Pending {
            pool.note("queued", || match &asked {
                Some(_) => {
                    format!("the endpoint chosen of {} is not ready", pool.view().candidates.len())
                }
                None => "no endpoint was found yet".into(),
            });
        }
        let seats = asked.map(|(member, service)| Seat { member, service }).into_iter().collect();
        let changed = pool.shown.listen();
        Box::pin(Self {
            pool,
            key,
            seats,
            seated: false,
            began: Instant::now(),
            _discovery: discovery,
            changed,
            timer: None,
        })
    }
}

impl<K, S: Clone> Waiting<K, S> {
    #[expect(clippy::type_complexity, reason = "two ends")]
    pub(crate) fn poll_ready<Req>(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(Admitted<K, S>, S), Ended<K, S, S::Error>>>
    where
        S: Service<Req>,
    {
        loop {
            let mut this = self.as_mut().project();
            let changed = this.changed.as_mut().poll(cx).is_ready();
            if changed {
                // Before the look at the endpoints: what changes after that is told.
                this.changed.set(this.pool.shown.listen());
            }
            if changed || !*this.seated {
                *this.seated = true;
                self.as_mut().sit_down();
                continue;
            }
            for at in 0..this.seats.len() {
                let seat = &mut this.seats[at];
                let Poll::Ready(ready) = seat.service.poll_ready(cx) else { continue };
                if seat.member.state.is_removed() {
                    // Whoever removed it says so at once, if he has not already.
                    continue;
                }
                let Seat { member, service } = this.seats.swap_remove(at);
                let now = this.pool.now();
                let admitted = Admitted::new(member, now);
                return Poll::Ready(match ready {
                    Ok(()) => Ok((admitted, service)),
                    Err(error) => Err(Ended::NotReady(admitted, error)),
                });
            }
            match self.as_mut().poll_time(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(reason)) => return Poll::Ready(Err(Ended::Refused(reason))),
                Poll::Ready(None) => {}
            }
        }
    }

    /// Takes a seat at every endpoint that the call may go to, and keeps those that it has there.
    fn sit_down(self: Pin<&mut Self>) {
        let this = self.project();
        let candidates = &this.pool.view();
        let mut order = this.pool.rules.order(&candidates.candidates, *this.key, this.pool.now());
        order.truncate(SEATS);
        let mut old = std::mem::take(this.seats);
        for member in order {
            let kept = old.iter().position(|seat| Arc::ptr_eq(&seat.member, &member));
            let seat = kept.map(|at| old.swap_remove(at));
            let fresh = || Seat { service: member.endpoint.service.clone(), member: Arc::clone(&member) };
            this.seats.push(seat.unwrap_or_else(fresh));
        }
    }

    /// Whether the time is up, and why; or there is something to look at again.
    fn poll_time(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Reason>> {
        let mut this = self.project();
        let deadline = Deadline::current().map(Deadline::instant);
        let first = if this.seats.is_empty() {
            if this.pool.view().discovery != Discovery::Pending {
                this.pool.note("refused", || "there is no endpoint".into());
                return Poll::Ready(Some(Reason::NoEndpoint));
            }
            this.began.checked_add(this.pool.settings.first_wait)
        } else {
            None
        };
        // Without other calls nobody else would see that an endpoint's time is up.
        let returns = this.pool.returns().map(|at: Nanos| this.pool.instant(at));
        let Some(until) = [deadline, first, returns].into_iter().flatten().min() else {
            this.timer.set(None);
            return Poll::Pending;
        };
        match this.timer.as_mut().as_pin_mut() {
            Some(timer) if timer.deadline() == until => {}
            Some(timer) => timer.reset(until),
            None => this.timer.set(Some(sleep_until(until))),
        }
        let Some(timer) = this.timer.as_mut().as_pin_mut() else { return Poll::Pending };
        if timer.poll(cx).is_pending() {
            return Poll::Pending;
        }
        this.timer.set(None);
        if deadline == Some(until) {
            this.pool.note("gave_up", || {
                format!("the caller's deadline passed before any of {} endpoints was ready", this.seats.len())
            });
            return Poll::Ready(Some(Reason::DeadlineExceeded));
        }
        if first == Some(until) {
            let limit = this.pool.settings.first_wait;
            this.pool.note("refused", || format!("no endpoint was found within {limit:.1?}"));
            return Poll::Ready(Some(Reason::NoEndpoint));
        }
        // A timer's time is in milliseconds: it fires later than asked, never earlier.
        this.pool.tick(this.pool.now());
        Poll::Ready(None)
    }
}
