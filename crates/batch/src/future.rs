use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Deadline, Decision, Origin, Reason, Rejectable};
use pin_project_lite::pin_project;
use tokio::{
    task::coop::unconstrained,
    time::{Instant, Sleep, sleep_until},
};
use tower_service::Service;

use crate::{carry::wrong_number, gather::Entry, inner::Inner, seats::Left, shared::Alone};

pin_project! {
    /// The future of [`Batched`](crate::Batched).
    ///
    /// Its request joins the line when it is first polled. Dropped before a batch has taken it, it is not sent; afterwards its
    /// result is dropped.
    ///
    /// # Panics
    /// When it is first polled outside of a tokio runtime, when it waits under a [`Deadline`] and the runtime has no timer, and
    /// when it is polled after it was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, F, Req, Res, E> {
        inner: Arc<Inner<S, Req, Res, E>>,
        deadline: Option<Instant>,
        // In a box: it is large, and only callers with a deadline have one.
        sleep: Option<Pin<Box<Sleep>>>,
        #[pin]
        stage: Stage<S, F, Req>,
    }

    impl<S, F, Req, Res, E> PinnedDrop for ResponseFuture<S, F, Req, Res, E> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            match &*this.stage {
                Stage::Wait { key } => drop(this.inner.shared.leave(*key)),
                Stage::Ready { request: Some(_), .. } => this.inner.shared.alone_ended(Alone::Unsent),
                Stage::Ready { .. } | Stage::Call { .. } => this.inner.shared.alone_ended(Alone::Abandoned),
                Stage::Begin { .. } | Stage::Done => {}
            }
        }
    }
}

pin_project! {
    #[project = Project]
    enum Stage<S, F, Req> {
        Begin { request: Option<Req> },
        // In a batch with others, or about to be.
        Wait { key: u32 },
        // By himself.
        Ready { service: S, request: Option<Req> },
        Call { #[pin] future: F },
        Done,
    }
}

impl<S, F, Req, Res, E> ResponseFuture<S, F, Req, Res, E> {
    #[inline]
    pub(crate) const fn new(inner: Arc<Inner<S, Req, Res, E>>, request: Req) -> Self {
        Self { inner, deadline: None, sleep: None, stage: Stage::Begin { request: Some(request) } }
    }
}

impl<S, Req, Res, E> Future for ResponseFuture<S, S::Future, Req, Res, E>
where
    S: Service<Vec<Req>, Response = Vec<Result<Res, E>>, Error = E> + Clone + Send + 'static,
    S::Future: Send,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Rejectable + Send + 'static,
{
    type Output = Result<Res, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let mut this = self.as_mut().project();
            let shared = &this.inner.shared;
            match this.stage.as_mut().project() {
                Project::Begin { request } => {
                    *this.deadline = Deadline::current().map(Deadline::instant);
                    let late = this.deadline.is_some_and(|deadline| deadline <= Instant::now());
                    let request = request.take().expect("it begins once");
                    if late {
                        this.stage.set(Stage::Done);
                        return Poll::Ready(Err(shared.reject(Reason::DeadlineExceeded).into()));
                    }
                    let weight = this.inner.rules.weight_of(&request);
                    match shared.enter(request, weight, *this.deadline, cx.waker()) {
                        Entry::Wait { key, begin, .. } => {
                            this.stage.set(Stage::Wait { key });
                            if let Some(number) = begin {
                                this.inner.begin(number);
                            }
                            if this.deadline.is_none() {
                                return Poll::Pending;
                            }
                        }
                        Entry::Alone(request) => {
                            // Whoever clones may panic: the turn to be alone is given back then.
                            let inner = this.inner.clone();
                            let turn = Turn(&inner);
                            let service = inner.fresh();
                            std::mem::forget(turn);
                            this.stage.set(Stage::Ready { service, request: Some(request) });
                        }
                        Entry::Refused(_request, reason) => {
                            if reason == Reason::Overloaded {
                                let most = this.inner.rules.limits.waiting;
                                Decision::note(shared.origin(), "refused", || {
                                    format!("{} of {most} requests wait", shared.stats().waiting)
                                });
                            }
                            this.stage.set(Stage::Done);
                            return Poll::Ready(Err(shared.reject(reason).into()));
                        }
                    }
                }
                Project::Wait { key } => {
                    let key = *key;
                    if let Some(outcome) = shared.look(key, cx.waker()) {
                        this.stage.set(Stage::Done);
                        return Poll::Ready(outcome.of_others(shared.origin()));
                    }
                    ready!(passes(*this.deadline, this.sleep, cx));
                    let left = shared.leave(key);
                    this.stage.set(Stage::Done);
                    let rejected = match left {
                        Left::Result(outcome) => return Poll::Ready(outcome.of_others(shared.origin())),
                        Left::Request(_) => {
                            late(shared.origin(), "its batch was sent");
                            shared.reject(Reason::DeadlineExceeded)
                        }
                        Left::Taken(_) => {
                            late(shared.origin(), "its batch was answered");
                            shared.reject(Reason::DeadlineExceeded).after_sending()
                        }
                    };
                    return Poll::Ready(Err(rejected.into()));
                }
                Project::Ready { service, request } => match service.poll_ready(cx) {
                    Poll::Ready(Ok(())) => {
                        let request = request.take().expect("it is called once");
                        let future = service.call(vec![request]);
                        this.stage.set(Stage::Call { future });
                    }
                    Poll::Ready(Err(error)) => {
                        shared.alone_ended(Alone::Failed);
                        this.stage.set(Stage::Done);
                        return Poll::Ready(Err(error));
                    }
                    Poll::Pending => {
                        ready!(passes(*this.deadline, this.sleep, cx));
                        shared.alone_ended(Alone::Unsent);
                        this.stage.set(Stage::Done);
                        return Poll::Ready(Err(shared.reject(Reason::DeadlineExceeded).into()));
                    }
                },
                Project::Call { future } => match future.poll(cx) {
                    Poll::Ready(result) => {
                        let answered = matches!(&result, Ok(results) if results.len() == 1);
                        // First of all, since what is the user's may panic when it is dropped.
                        shared.alone_ended(if answered { Alone::Answered } else { Alone::Failed });
                        this.stage.set(Stage::Done);
                        return Poll::Ready(match result {
                            Ok(mut results) if answered => results.pop().expect("there is one"),
                            Ok(results) => Err(wrong_number(&this.inner.rules, 1, results.len()).into()),
                            Err(error) => Err(error),
                        });
                    }
                    Poll::Pending => {
                        ready!(passes(*this.deadline, this.sleep, cx));
                        shared.alone_ended(Alone::Abandoned);
                        this.stage.set(Stage::Done);
                        let rejected = shared.reject(Reason::DeadlineExceeded).after_sending();
                        return Poll::Ready(Err(rejected.into()));
                    }
                },
                Project::Done => panic!("it is not polled after it was ready"),
            }
        }
    }
}

#[cold]
fn late(origin: Origin, before: &str) {
    Decision::note(origin, "gave_up", || format!("the caller's deadline passed before {before}"));
}

/// Ready when the caller's deadline passes.
fn passes(deadline: Option<Instant>, sleep: &mut Option<Pin<Box<Sleep>>>, cx: &mut Context<'_>) -> Poll<()> {
    let Some(deadline) = deadline else { return Poll::Pending };
    let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
    // It must ring also where the service used up what the runtime lets a task do at a time.
    pin!(unconstrained(sleep.as_mut())).poll(cx)
}

/// The turn to be alone.
struct Turn<'a, S, Req, Res, E>(&'a Inner<S, Req, Res, E>);

impl<S, Req, Res, E> Drop for Turn<'_, S, Req, Res, E> {
    fn drop(&mut self) {
        self.0.shared.alone_ended(Alone::Unsent);
    }
}

impl<S, F, Req, Res, E> fmt::Debug for ResponseFuture<S, F, Req, Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").field("origin", &self.inner.rules.origin).finish_non_exhaustive()
    }
}
