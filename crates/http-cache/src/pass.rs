//! Requests that no cache can answer.

use std::{future::poll_fn, sync::Arc};

use buttress_core::Rejectable;
use http::{Request, Response, request};
use tower_service::Service;

use crate::{
    ResponseBody,
    cache::Inner,
    key::Key,
    rules::{CacheStatus, Forward},
};

/// Sends a request on as it is. Where it may have changed something, what was stored for that is let go (RFC 9111, section
/// 4.4): after an answer without an error, and where it was sent and the answer is not known.
pub(crate) async fn pass<S, ReqB, B>(
    cache: Arc<Inner>,
    mut service: S,
    key: Option<Key>,
    request: request::Parts,
    body: ReqB,
    why: Forward,
) -> Result<Response<ResponseBody<B>>, S::Error>
where
    S: Service<Request<ReqB>, Response = Response<B>>,
    S::Error: Rejectable,
{
    poll_fn(|cx| service.poll_ready(cx)).await?;
    let changes = key.filter(|_| !request.method.is_safe()).map(|key| (key, head(&request)));
    let mut unknown = changes.as_ref().map(|(key, _)| Unknown { cache: &cache, key, is_over: false });
    let answered = service.call(Request::from_parts(request, body)).await;
    if let Some(unknown) = &mut unknown {
        // A refusal that was not sent changed nothing.
        let is_not_sent = |error: &S::Error| error.rejected().is_some_and(|rejected| !rejected.sent());
        unknown.is_over = answered.as_ref().map_or_else(is_not_sent, |_| true);
    }
    drop(unknown);
    let (head, body) = answered?.into_parts();
    if let Some((key, request)) = &changes {
        cache.changed(key, request, &head);
    }
    let mut response = Response::from_parts(head, ResponseBody::passing(body));
    let status = CacheStatus::forward(why).forward_status(response.status());
    cache.say(&status, &mut response);
    Ok(response)
}

/// What the rules want to know of a request.
fn head(request: &request::Parts) -> request::Parts {
    let mut head = request.clone();
    head.extensions.clear();
    head
}

/// A change that may have happened: dropped before it is over, it counts as one that did.
struct Unknown<'a> {
    cache: &'a Inner,
    key: &'a Key,
    is_over: bool,
}

impl Drop for Unknown<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.cache.invalidate(self.key);
        }
    }
}
