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
    let Some(leader) = cache.flights.try_lead(key) else { return true };
    count(&cache.counters.refreshes);
    let (cache, key) = (cache.clone(), key.clone());
    let request = whole(request);
    let exchange = Exchange::new(
        cache.clone(),
        service.clone(),
        key.clone(),
        request,
        Some(entry.clone()),
        Forward::Stale,
    );
    runtime.spawn(async move {
        let mut failed = Failed { cache: &cache, key: &key, is_over: false };
        let refreshed = timeout(LIMIT, async {
            let response = exchange.ask(ReqB::default(), Some(leader)).await.ok()?;
            let is_right = !response.status().is_server_error();
            let mut body = pin!(response.into_body());
            // It is stored as it is read.
            while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
                frame.ok()?;
            }
            is_right.then_some(())
        });
        failed.is_over = matches!(refreshed.await, Ok(Some(())));
    });
    true
}

/// The request, without what would have an answer to it be less than the whole.
fn whole(request: &request::Parts) -> request::Parts {
    let mut whole = request.clone();
    whole.method = Method::GET;
    for condition in [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE, header::RANGE] {
        whole.headers.remove(condition);
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
