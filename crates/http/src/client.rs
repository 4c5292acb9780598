use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use buttress_core::{Deadline, Metric, Observe, Origin, Reason, Value};
use http::{Request, Response, Version};
use http_body::Body;
use hyper_util::client::legacy::Client;
use tower_service::Service;

use crate::{
    body::ResponseBody,
    builder::Builder,
    connect::{Connector, Counts},
    error::Error,
    future::ResponseFuture,
    peer::Peer,
};

/// An HTTP client as a tower `Service`: a pool of connections by hyper, TLS by rustls, limits by default.
///
/// Clones are cheap and share one pool. It is always ready: nothing limits the calls in flight but what layers are put
/// around it.
///
/// `B` is the body of the requests. A connection is a task of the tokio runtime that it was opened on, and ends with it.
pub struct HttpClient<B> {
    client: Client<Connector, B>,
    origin: Origin,
    counts: Arc<Counts>,
}

/// A body's type says nothing here; it stands on `()` so that `HttpClient::builder()` needs no annotation.
impl HttpClient<()> {
    /// Settings, all with a default.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl<B> HttpClient<B> {
    pub(crate) fn new(client: Client<Connector, B>, origin: Origin, counts: Arc<Counts>) -> Self {
        Self { client, origin, counts }
    }

    /// The figures of this client's connections.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections { origin: self.origin, counts: Arc::clone(&self.counts) }
    }
}

impl<B> Clone for HttpClient<B> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), origin: self.origin, counts: Arc::clone(&self.counts) }
    }
}

impl<B> fmt::Debug for HttpClient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl<B> Service<Request<B>> for HttpClient<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> ResponseFuture {
        if Deadline::has_expired() {
            return ResponseFuture::refused(self.origin.reject(Reason::DeadlineExceeded).into());
        }
        // What is spoken is negotiated with each server. A request that came in by HTTP/2 says so, and hyper would
        // refuse to pass it on to a server of HTTP/1.1.
        *request.version_mut() = Version::HTTP_11;
        let peer = Peer::of(request.uri());
        ResponseFuture::calling(self.client.request(request), peer, self.origin)
    }
}

/// The figures of a client's connections, made by [`HttpClient::connections`].
#[derive(Debug, Clone)]
pub struct Connections {
    origin: Origin,
    counts: Arc<Counts>,
}

impl Connections {
    /// How many were opened.
    #[must_use]
    pub fn opened(&self) -> u64 {
        self.counts.opened.load(Relaxed)
    }

    /// How many attempts to open one failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.counts.failed.load(Relaxed)
    }
}

impl Observe for Connections {
    fn origin(&self) -> Origin {
        self.origin
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("connections_opened", Value::Counter(self.opened())));
        visit(Metric::new("connections_failed", Value::Counter(self.failed())));
        self.origin.observe_rejections(visit);
    }
}
