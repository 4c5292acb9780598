use std::{
    fmt,
    task::{Context, Poll},
};

use buttress_core::{BoxError, Decision, Rejectable};
use bytes::Bytes;
use http::{Request, Response, request};
use http_body::Body;
use tower_service::Service;

use crate::{
    HttpCache, ResponseBody, ResponseFuture,
    exchange::Exchange,
    key::Key,
    pass, refresh,
    rules::{Approach, CacheStatus, Forward, Moment, Rules, Verdict},
    shelf::Entry,
    stats::count,
};

/// A service behind an HTTP cache: made by [`HttpCacheLayer`](crate::HttpCacheLayer).
#[derive(Clone)]
pub struct HttpCached<S> {
    /// Never polled ready itself: a hit does not ask it, and a miss drives a clone of its own.
    inner: S,
    cache: HttpCache,
}

impl<S> HttpCached<S> {
    pub(crate) const fn new(inner: S, cache: HttpCache) -> Self {
        Self { inner, cache }
    }

    /// The cache.
    #[must_use]
    pub fn cache(&self) -> HttpCache {
        self.cache.clone()
    }
}

impl<S, ReqB, B> Service<Request<ReqB>> for HttpCached<S>
where
    S: Service<Request<ReqB>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Rejectable + Send,
    ReqB: Body + Default + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = ResponseFuture<B, S::Error>;

    /// Always ready: a hit never waits for the service inside. A miss waits for it in its future.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<ReqB>) -> Self::Future {
        let cache = &self.cache.inner;
        let (request, body) = request.into_parts();
        let key = Key::of(&request.uri, &request.headers, cache.scheme);
        let (key, only_if_cached) = match (key, cache.rules.approach(&request)) {
            (Some(key), Approach::Lookup { only_if_cached }) if is_empty(&body) => (key, only_if_cached),
            (key, approach) => {
                count(&cache.counters.passed);
                if Rules::is_only_if_cached(&request) {
                    return ResponseFuture::ready(cache.not_cached());
                }
                let why = if let Approach::Forward(why) = approach { why } else { Forward::Bypass };
                let passing = pass::pass(cache.clone(), self.inner.clone(), key, request, body, why);
                return ResponseFuture::running(Box::pin(passing));
            }
        };
        let now = Moment::now();
        let variants = cache.shelf.variants(&key);
        let selected = variants.as_ref().and_then(|variants| cache.select(variants, &request));
        let mut why = if variants.is_some() { Forward::VaryMiss } else { Forward::UriMiss };
        if let Some(entry) = &selected {
            match cache.rules.judge(&entry.stored, &request, now) {
                Verdict::Fresh => {
                    if let Some(response) = self.hit(entry, &request, now, None) {
                        count(&cache.counters.hits);
                        return ResponseFuture::ready(response);
                    }
                }
                Verdict::Stale => {
                    if let Some(response) = self.hit(entry, &request, now, None) {
                        count(&cache.counters.stale);
                        cache.note_stale(entry, now, "the request takes it");
                        return ResponseFuture::ready(response);
                    }
                }
                Verdict::WhileRevalidate => {
                    let status = Some("stale-while-revalidate");
                    if let Some(response) = self.hit(entry, &request, now, status)
                        && (only_if_cached || refresh::begin(cache, &self.inner, &key, entry, &request, now))
                    {
                        count(&cache.counters.stale);
                        cache.note_stale(entry, now, "it is validated meanwhile");
                        return ResponseFuture::ready(response);
                    }
                    why = Forward::Stale;
                }
                Verdict::Validate(reason) => why = reason,
            }
        }
        count(&cache.counters.misses);
        if only_if_cached {
            Decision::note(cache.origin, "refused", || {
                "nothing is stored, and the request takes nothing else".into()
            });
            return ResponseFuture::ready(cache.not_cached());
        }
        let exchange = Exchange::new(cache.clone(), self.inner.clone(), key, request, selected, why);
        ResponseFuture::running(Box::pin(exchange.run(body)))
    }
}

impl<S> HttpCached<S> {
    fn hit<B>(
        &self,
        entry: &Entry,
        request: &request::Parts,
        now: Moment,
        detail: Option<&'static str>,
    ) -> Option<Response<ResponseBody<B>>> {
        let status = CacheStatus::hit(entry.stored.ttl(now));
        let status = if let Some(detail) = detail { status.detail(detail) } else { status };
        self.cache.inner.answer(entry, request, now, &status)
    }
}

fn is_empty<B: Body>(body: &B) -> bool {
    body.is_end_stream() || body.size_hint().exact() == Some(0)
}

impl<S> fmt::Debug for HttpCached<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCached").field("cache", &self.cache).finish_non_exhaustive()
    }
}
