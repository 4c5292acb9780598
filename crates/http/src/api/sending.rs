use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::{Deadline, Decision, Origin, Reason, Rejectable, Rejected, Scope};
use pin_project_lite::pin_project;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    body::ApiBody, client::Shared, error::ApiError, redirect::Route, response::ApiResponse, stack::Calling,
};
use crate::request_body::Body;

pin_project! {
    /// The future of [`ApiRequest::send`](crate::ApiRequest::send).
    ///
    /// The timeout begins to run when it is first polled. Dropped unfinished, it gives up what is under way: what was
    /// sent stays sent, and the server may carry it out. When the time is up it drops the call at once.
    #[must_use = "futures do nothing unless polled"]
    pub struct Sending {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    #[allow(clippy::large_enum_variant, reason = "the other ones are what is left when it is done")]
    enum State {
        Refused { error: Option<ApiError> },
        Running {
            client: Arc<Shared>,
            route: Option<Route>,
            call: Calling,
            limit: Duration,
            // As it is before a poll: what surrounds one poll need not surround the next.
            until: Option<(Deadline, Scope)>,
            redirected: bool,
            #[pin]
            timer: Option<Sleep>,
        },
    }
}

impl Sending {
    pub(crate) fn refused(error: ApiError) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }

    pub(crate) fn new(client: Arc<Shared>, route: Route, body: Body, limit: Duration) -> Self {
        let (request, unpack) = route.request(&client, body);
        let call = client.stack.call(request, unpack);
        Self {
            state: State::Running {
                client,
                route: Some(route),
                call,
                limit,
                until: None,
                redirected: false,
                timer: None,
            },
        }
    }
}

impl Future for Sending {
    type Output = Result<ApiResponse, ApiError>;

    /// # Panics
    /// When it is polled again after it was ready; when the call has to wait and there is no tokio runtime with a timer.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = match this.state.as_mut().project() {
            StateProj::Refused { error } => Err(error.take().expect("polled after it was ready")),
            StateProj::Running { client, route, call, limit, until, redirected, timer } => {
                let (own, scope) = until.get_or_insert_with(|| {
                    let own = Deadline::after(*limit);
                    (own, Scope::until(own))
                });
                let (own, before) = (*own, &*scope);
                let mut scope = before.clone();
                loop {
                    match scope.enter(|| call.as_mut().poll(cx)) {
                        Poll::Ready(Err(error)) => {
                            let error = owned(error, own, client.origin);
                            break Err(if *redirected { error.after_redirect() } else { error });
                        }
                        Poll::Ready(Ok(answer)) => {
                            let next = route.as_mut().and_then(|route| route.follow(client, &answer));
                            if let Some((request, unpack)) = next {
                                // Where nothing has to wait, the timer is never asked.
                                if own.instant() <= Instant::now() {
                                    break Err(expired(own, client.origin).after_sending().into());
                                }
                                *redirected = true;
                                *call = client.stack.call(request, unpack);
                                continue;
                            }
                            let (head, body) = answer.into_parts();
                            let uri = route.take().expect("it is taken with the answer").into_uri();
                            let body = ApiBody::new(body, uri, own, before.clone(), client.origin);
                            break Ok(ApiResponse::new(head, body, client.max_answer));
                        }
                        Poll::Pending => {
                            ready!(poll_expired(&mut scope, timer, cx));
                            let rejected = expired(own, client.origin);
                            let sent = *redirected || call.is_made();
                            break Err(if sent { rejected.after_sending() } else { rejected }.into());
                        }
                    }
                }
            }
        };
        this.state.set(State::Refused { error: None });
        Poll::Ready(result)
    }
}

/// Waits until the earliest deadline of the scope.
fn poll_expired(scope: &mut Scope, mut timer: Pin<&mut Option<Sleep>>, cx: &mut Context<'_>) -> Poll<()> {
    let at = scope.fix(Instant::now).expect("it has an end").instant();
    match timer.as_mut().as_pin_mut() {
        None => timer.set(Some(sleep_until(at))),
        // It has been moved under another deadline.
        Some(timer) if timer.deadline() != at => timer.reset(at),
        Some(_) => {}
    }
    // A call that uses up its task's budget at every poll would otherwise keep the timer from being looked at.
    timer.as_pin_mut().map_or(Poll::Pending, |timer| pin!(unconstrained(timer)).poll(cx))
}

/// Whose time it was that is up: the client's own limit, or a deadline around the call.
pub(crate) fn expired(own: Deadline, origin: Origin) -> Rejected {
    let reason = if own.instant() <= Instant::now() { Reason::TimedOut } else { Reason::DeadlineExceeded };
    Decision::note(origin, "gave_up", || gave_up(reason == Reason::TimedOut));
    origin.reject(reason)
}

#[cold]
fn gave_up(own: bool) -> String {
    if own { "its timeout was up" } else { "the caller's deadline passed" }.into()
}

/// Whoever is inside and honours the deadline notices first that it has passed. Where it was the client's own limit, it
/// is the client that gave the call up.
#[cold]
pub(crate) fn owned(error: ApiError, own: Deadline, origin: Origin) -> ApiError {
    let Some(rejected) = error.rejected() else { return error };
    if rejected.reason() != Reason::DeadlineExceeded || own.instant() > Instant::now() {
        return error;
    }
    Decision::note(origin, "gave_up", || gave_up(true));
    let ours = origin.reject(Reason::TimedOut);
    if rejected.sent() { ours.after_sending().into() } else { ours.into() }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}
