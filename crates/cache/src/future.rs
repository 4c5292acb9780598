use std::{
    fmt,
    future::Future,
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use buttress_core::{Classify, Deadline, Decision, Reason, Rejectable};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use crate::{
    Follower, Landed,
    inner::{Brought, Inner},
    lead::Lead,
    load::Load,
};

pin_project! {
    /// The future of [`Cached`](crate::Cached).
    ///
    /// Dropped while it loads, it hands the load over to a caller who waits for the same key, with that caller's own request;
    /// the call under way is dropped.
    ///
    /// # Panics
    /// When it has to wait under a [`Deadline`] and there is no tokio runtime with a timer, and when it is polled after it
    /// was ready.
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, F, Req, K, V, C>
    where
        K: Hash,
        K: Eq,
    {
        #[pin]
        state: State<S, F, Req, K, V, C>,
    }
}

pin_project! {
    #[project = Project]
    enum State<S, F, Req, K, V, C>
    where
        K: Hash,
        K: Eq,
    {
        Hit { value: Option<V> },
        Load { #[pin] load: Load<S, F, Req, K, V, C> },
        Follow { #[pin] follow: Follow<S, Req, K, V, C> },
        // A call without a key: past the cache.
        Begin { service: S, request: Option<Req> },
        Pass { #[pin] future: F },
    }
}

pin_project! {
    struct Follow<S, Req, K, V, C>
    where
        K: Hash,
        K: Eq,
    {
        #[pin]
        follower: Follower<K, Brought<V>>,
        // The epoch of the tags in which the caller came.
        asked_in: u64,
        // Until the deadline of the caller. In a box: it is large, and the future of a hit would be as large.
        sleep: Option<Pin<Box<Sleep>>>,
        // What a new leader begins with.
        mine: Option<(Arc<Inner<K, V>>, K, S, Req, C)>,
    }
}

impl<S, F, Req, K: Hash + Eq, V, C> ResponseFuture<S, F, Req, K, V, C> {
    #[inline(always)]
    pub(crate) const fn hit(value: V) -> Self {
        Self { state: State::Hit { value: Some(value) } }
    }

    #[inline(always)]
    pub(crate) const fn pass(service: S, request: Req) -> Self {
        Self { state: State::Begin { service, request: Some(request) } }
    }
}

impl<S, F, Req, K, V, C> ResponseFuture<S, F, Req, K, V, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    #[inline(always)]
    pub(crate) fn lead(
        lead: Lead<K, V>,
        key: K,
        service: S,
        request: Req,
        classify: C,
        refreshes: bool,
    ) -> Self {
        Self { state: State::Load { load: Load::new(lead, key, service, request, classify, refreshes) } }
    }

    #[inline(always)]
    pub(crate) fn follow(
        inner: &Arc<Inner<K, V>>,
        key: K,
        follower: Follower<K, Brought<V>>,
        service: S,
        request: Req,
        classify: C,
    ) -> Self {
        let asked_in = inner.tags.epoch();
        let mine = Some((inner.clone(), key, service, request, classify));
        Self { state: State::Follow { follow: Follow { follower, asked_in, sleep: None, mine } } }
    }
}

impl<S, F, Req, K, V, C> State<S, F, Req, K, V, C>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// For one who has waited.
    fn load(
        (inner, key, service, request, classify): Mine<S, Req, K, V, C>,
        lead: impl FnOnce(Arc<Inner<K, V>>) -> Lead<K, V>,
    ) -> Self {
        Self::Load { load: Load::new(lead(inner), key, service, request, classify, false) }
    }
}

impl<S, Req, K, V, C> Future for ResponseFuture<S, S::Future, Req, K, V, C>
where
    S: Service<Req, Response = V>,
    S::Error: Rejectable,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    C: Classify<V, S::Error>,
{
    type Output = Result<V, S::Error>;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Project::Hit { value } = self.as_mut().project().state.project() {
            return Poll::Ready(Ok(value.take().expect("it is not polled after it was ready")));
        }
        self.poll_slowly(cx)
    }
}

impl<S, Req, K, V, C> ResponseFuture<S, S::Future, Req, K, V, C>
where
    S: Service<Req, Response = V>,
    S::Error: Rejectable,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    C: Classify<V, S::Error>,
{
    #[inline(never)]
    fn poll_slowly(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<V, S::Error>> {
        loop {
            let mut state = self.as_mut().project().state;
            match state.as_mut().project() {
                Project::Hit { value } => {
                    return Poll::Ready(Ok(value.take().expect("it is not polled after it was ready")));
                }
                Project::Load { load } => return load.poll(cx),
                Project::Pass { future } => return future.poll(cx),
                Project::Begin { service, request } => {
                    ready!(service.poll_ready(cx))?;
                    let request = request.take().expect("it is called once");
                    let future = service.call(request);
                    state.set(State::Pass { future });
                }
                Project::Follow { follow } => {
                    let asked_in = follow.asked_in;
                    match ready!(follow.poll_landed(cx)) {
                        Some((Landed::With(Brought::Value(value, since)), mine)) => {
                            if !mine.0.is_outdated(&since, asked_in) {
                                return Poll::Ready(Ok(value));
                            }
                            // It was read before the tag was invalidated, and the caller came after that.
                            match mine.0.flights.join_post(&mine.1) {
                                Ok(post) => {
                                    state.set(State::load(mine, |inner| Lead::new(inner, Some(post))));
                                }
                                Err(follower) => {
                                    let follow = Follow { follower, asked_in, sleep: None, mine: Some(mine) };
                                    state.set(State::Follow { follow });
                                }
                            }
                        }
                        Some((Landed::With(Brought::Failed(rejected)), _)) => {
                            return Poll::Ready(Err(rejected.into()));
                        }
                        Some((Landed::Lead(leader), mine)) => {
                            state.set(State::load(mine, |inner| Lead::after(inner, leader)));
                        }
                        // He has no flight, and what he loads is for him alone.
                        Some((Landed::With(Brought::Apart), mine)) => {
                            state.set(State::load(mine, |inner| Lead::new(inner, None)));
                        }
                        None => {
                            let Project::Follow { follow } = state.project() else {
                                unreachable!("it did not change")
                            };
                            let inner = &follow.mine.as_ref().expect("nobody took it").0;
                            Decision::note(inner.origin, "gave_up", || {
                                "the caller's deadline passed while another call loaded".into()
                            });
                            return Poll::Ready(Err(inner.origin.reject(Reason::DeadlineExceeded).into()));
                        }
                    }
                }
            }
        }
    }
}

type Mine<S, Req, K, V, C> = (Arc<Inner<K, V>>, K, S, Req, C);

impl<S, Req, K: Hash + Eq, V: Clone, C> Follow<S, Req, K, V, C> {
    /// How the flight ended; nothing, if the deadline passed before.
    #[expect(clippy::type_complexity, reason = "it is taken apart at once")]
    fn poll_landed(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Landed<K, Brought<V>>, Mine<S, Req, K, V, C>)>> {
        let this = self.project();
        if let Poll::Ready(landed) = this.follower.poll(cx) {
            return Poll::Ready(Some((landed, this.mine.take().expect("it ends once"))));
        }
        if this.sleep.is_none() {
            let Some(deadline) = Deadline::current() else { return Poll::Pending };
            *this.sleep = Some(Box::pin(sleep_until(deadline.instant())));
        }
        let sleep = this.sleep.as_mut().expect("it was set");
        sleep.as_mut().poll(cx).map(|()| None)
    }
}

impl<S, F, Req, K: Hash + Eq, V, C> fmt::Debug for ResponseFuture<S, F, Req, K, V, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
