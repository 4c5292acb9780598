use std::{
    error::Error as StdError,
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
};

use buttress_core::{Deadline, Metric, Observe, Origin, Reason, Setting, SettingValue, Value, WeakObserve};
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
    host::Host,
    limits::Limits,
    outgoing::Outgoing,
    peer::Peer,
    places::Places,
    upload::Upload,
    waiting::Waiting,
};

/// An HTTP client as a tower `Service`: a pool of connections by hyper, TLS by rustls, limits by default.
///
/// Clones are cheap and share one pool. It is always ready: nothing limits the calls in flight but what layers are put
/// around it.
///
/// `B` is the body of the requests. A connection is a task of the tokio runtime that it was opened on, and ends with it.
pub struct HttpClient<B>(Arc<Shared<B>>);

/// Behind one reference: a stack of layers copies its client for every call, and hyper's alone has five of them.
struct Shared<B> {
    client: Client<Connector, Upload<B>>,
    counts: Arc<Counts>,
    host: Host,
    limits: Option<Arc<Limits>>,
    outgoing: Option<Outgoing>,
    places: Arc<Places>,
}

/// A body's type says nothing here; it stands on `()` so that `HttpClient::builder()` needs no annotation.
impl HttpClient<()> {
    /// Settings, all with a default.
    pub fn builder() -> Builder {
        Builder::new()
    }
}

impl<B> HttpClient<B> {
    pub(crate) fn new(
        client: Client<Connector, Upload<B>>,
        counts: Arc<Counts>,
        places: Arc<Places>,
        limits: Option<Arc<Limits>>,
        outgoing: Option<Outgoing>,
    ) -> Self {
        Self(Arc::new(Shared { client, counts, host: Host::default(), limits, outgoing, places }))
    }

    pub(crate) fn places(&self) -> &Arc<Places> {
        &self.0.places
    }

    /// The figures of this client's connections.
    #[must_use]
    pub fn connections(&self) -> Connections {
        Connections { counts: Arc::clone(&self.0.counts), places: Arc::clone(&self.0.places) }
    }
}

impl<B> Clone for HttpClient<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<B> fmt::Debug for HttpClient<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("origin", &self.0.places.origin).finish_non_exhaustive()
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
        let Shared { client, host, limits, outgoing, places, .. } = &*self.0;
        let origin = places.origin;
        if Deadline::has_expired() {
            return ResponseFuture::refused(origin.reject(Reason::DeadlineExceeded).into());
        }
        let Some(mut held) = places.enter() else {
            return ResponseFuture::refused(origin.reject(Reason::Closed).into());
        };
        // What is spoken is negotiated with each server. A request that came in by HTTP/2 says so, and hyper would
        // refuse to pass it on to a server of HTTP/1.1.
        *request.version_mut() = Version::HTTP_11;
        if let Some(outgoing) = outgoing {
            outgoing.add_to(&mut request);
        }
        host.add_to(&mut request);
        held.watch(&mut request);
        let peer = Peer::of(request.uri());
        let (request, waiting) = match limits.as_ref().and_then(|limits| limits.first_byte) {
            None => (request.map(Upload::unwatched), None),
            Some(limit) => {
                let (parts, body) = request.into_parts();
                let (upload, progress) = Upload::watched(body);
                (Request::from_parts(parts, upload), Some(Box::new(Waiting::new(limit, progress))))
            }
        };
        let call = client.request(request);
        ResponseFuture::calling(call, peer, origin, held, limits.clone(), waiting)
    }
}

/// The figures of a client's connections, made by [`HttpClient::connections`].
#[derive(Clone)]
pub struct Connections {
    counts: Arc<Counts>,
    places: Arc<Places>,
}

impl Connections {
    pub(crate) const fn places(&self) -> &Arc<Places> {
        &self.places
    }

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

    /// How many there are now: in use, idle, or being made.
    #[must_use]
    pub fn open(&self) -> usize {
        self.places.taken()
    }

    /// How many of them are idle. It looks at each of them.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.places.book().open.values().filter(|connection| connection.is_idle()).count()
    }

    /// How many calls wait for one to be allowed.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.places.book().waiting.len()
    }
}

/// The figures, not what they are made of.
impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections")
            .field("opened", &self.opened())
            .field("failed", &self.failed())
            .field("open", &self.open())
            .field("idle", &self.idle())
            .field("waiting", &self.waiting())
            .finish()
    }
}

impl Observe for Connections {
    fn origin(&self) -> Origin {
        self.places.origin
    }

    fn downgrade(&self) -> WeakObserve {
        let (counts, places) = (Arc::downgrade(&self.counts), Arc::downgrade(&self.places));
        WeakObserve::new(&self.places, move || {
            Some(Box::new(Self { counts: counts.upgrade()?, places: places.upgrade()? }))
        })
    }

    fn observe(&self, visit: &mut dyn FnMut(Metric)) {
        visit(Metric::new("connections_opened", Value::Counter(self.opened())));
        visit(Metric::new("connections_failed", Value::Counter(self.failed())));
        visit(Metric::new("connections_open", gauge(self.open())));
        visit(Metric::new("connections_idle", gauge(self.idle())));
        visit(Metric::new("calls_waiting", gauge(self.waiting())));
        self.places.origin.observe_rejections(visit);
    }

    fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let caps = self.places.book().caps;
        for setting in &self.counts.settings {
            let count = |count: usize| Setting::new(setting.name, SettingValue::Count(count as u64));
            visit(match setting.name {
                "max_connections_per_host" => count(caps.per_host),
                "max_connections" => count(caps.total),
                _ => *setting,
            });
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "nobody has that many")]
fn gauge(count: usize) -> Value {
    Value::Gauge(count as f64)
}
