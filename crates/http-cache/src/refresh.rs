//! Stored responses that are validated while they are served (RFC 5861, section 3).

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use buttress_core::{BoxError, Rejectable};
use bytes::Bytes;
use http::{Method, Request, Response, header, request};
use http_body::Body;
use tokio::{runtime::Handle, time::timeout};
use tower_service::Service;

use crate::{
    cache::Inner,
    exchange::Exchange,
    key::Key,
    rules::{Forward, Moment},
    shelf::Entry,
    stats::count,
};

/// One that hangs would keep all others from being tried.
const LIMIT: Duration = Duration::from_secs(30);

/// Validates a stored response in a task of its own, unless that is being done, or failed a moment ago. Says whether the
/// old one may be served meanwhile: not where there is no runtime for the task.
pub(crate) fn begin<S, ReqB, B>(
    cache: &Arc<Inner>,
    service: &S,
    key: &Key,
    entry: &Arc<Entry>,
    request: &request::Parts,
    now: Moment,
) -> bool
where
    S: Service<Request<ReqB>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Rejectable + Send,
    ReqB: Default + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let Ok(runtime) = Handle::try_current() else { return false };
    if cache.rests(key, now.instant) {
        return true;
    }
    let request = whole(request);
    let Some(leader) = cache.flights.try_lead(&cache.flight_key(key, &request)) else { return true };
    count(&cache.counters.refreshes);
    let (cache, key) = (cache.clone(), key.clone());
    let (selected, service) = (Some(entry.clone()), service.clone());
    let exchange = Exchange::new(cache.clone(), service, key.clone(), request, selected, Forward::Stale);
    let exchange = Exchange { is_refresh: true, ..exchange };
    runtime.spawn(async move {
        let mut failed = Failed { cache: &cache, key: &key, is_over: false };
        let refreshed = timeout(LIMIT, async {
            let response = exchange.ask(ReqB::default(), Some(leader)).await.ok()?;
            if response.body().is_passing() {
                // What is not stored is for nobody.
                return None;
            }
            let mut body = pin!(response.into_body());
            // It is stored as it is read.
            while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                frame.ok()?;
            }
            Some(())
        });
        failed.is_over = matches!(refreshed.await, Ok(Some(())));
    });
    true
}

/// The request, without what would have an answer to it be less than the whole, and without what its client wants of caches:
/// he has his answer.
fn whole(request: &request::Parts) -> request::Parts {
    let mut whole = request.clone();
    whole.method = Method::GET;
    for of_the_client in [
        header::IF_NONE_MATCH,
        header::IF_MODIFIED_SINCE,
        header::IF_RANGE,
        header::RANGE,
        header::CACHE_CONTROL,
        header::PRAGMA,
    ] {
        whole.headers.remove(of_the_client);
    }
    whole
}

/// Dropped before it is over (it failed, took too long, or panicked): the next one is not tried at once.
struct Failed<'a> {
    cache: &'a Inner,
    key: &'a Key,
    is_over: bool,
}

impl Drop for Failed<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cache.rest(self.key);
        }
    }
}
