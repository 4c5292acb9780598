use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
};

use buttress_cache::ResponseFuture;
use buttress_core::Rejectable;
use pin_project_lite::pin_project;
use tower_service::Service;

use crate::{
    Query, QueryKey, Rows,
    cache::{
        judge::{End, Judge},
        service::{Keyed, Keyless},
        writing::Writing,
    },
};

pin_project! {
    /// The future of [`CachedQueries`](crate::CachedQueries).
    ///
    /// Dropped while it loads, it hands the load over to a caller who waits for the same answer. Dropped while it writes, it
    /// counts as a write whose end is not known: see the [crate's documentation](crate).
    #[must_use = "futures do nothing unless polled"]
    pub struct QueryCacheFuture<S: Service<Query>> {
        #[pin]
        way: Way<S>,
    }
}

type Boxed<E> = Pin<Box<dyn Future<Output = Result<Rows, E>> + Send>>;

pin_project! {
    #[project = Project]
    enum Way<S: Service<Query>> {
        Read { #[pin] future: ResponseFuture<Keyless<S>, S::Future, Keyed, QueryKey, Rows, Judge> },
        // Boxed, as what the pool does is.
        Write { future: Boxed<S::Error> },
    }
}

impl<S> QueryCacheFuture<S>
where
    S: Service<Query, Response = Rows> + Send + 'static,
    S::Future: Send,
    S::Error: Rejectable + Send + 'static,
{
    pub(crate) fn read(future: ResponseFuture<Keyless<S>, S::Future, Keyed, QueryKey, Rows, Judge>) -> Self {
        Self { way: Way::Read { future } }
    }

    pub(crate) fn write(mut service: S, query: Query, mut writing: Writing) -> Self {
        let future = Box::pin(async move {
            poll_fn(|cx| service.poll_ready(cx)).await?;
            writing.begin();
            let repeatable = query.is_repeatable();
            let result = service.call(query).await;
            writing.end(match &result {
                // A layer inside may have tried it more than once, and the error is that of the last attempt alone.
                Err(_) if repeatable => End::Unknown,
                result => End::of(result),
            });
            result
        });
        Self { way: Way::Write { future } }
    }
}

impl<S> Future for QueryCacheFuture<S>
where
    S: Service<Query, Response = Rows>,
    S::Error: Rejectable + 'static,
{
    type Output = Result<Rows, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().way.project() {
            Project::Read { future } => future.poll(cx),
            Project::Write { future } => future.as_mut().poll(cx),
        }
    }
}

impl<S: Service<Query>> fmt::Debug for QueryCacheFuture<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryCacheFuture").finish_non_exhaustive()
    }
}
