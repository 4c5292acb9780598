use std::{
    error::Error as StdError,
    fmt,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use buttress_core::BoxError;
use http::{Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tower_service::Service;

use crate::connecting;

/// Name resolution, TCP and TLS under one time limit: hyper's own limits the TCP handshake alone.
#[derive(Clone)]
pub(crate) struct Connector {
    pub(crate) scheme: Schemes,
    pub(crate) limit: Duration,
    pub(crate) counts: Arc<Counts>,
}

#[derive(Clone)]
pub(crate) enum Schemes {
    Http(HttpConnector),
    HttpAndHttps(HttpsConnector<HttpConnector>),
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) opened: AtomicU64,
    pub(crate) failed: AtomicU64,
}

/// What a connection is: plain or TLS.
type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

#[derive(Debug)]
pub(crate) enum ConnectFailure {
    NoTls,
    Scheme,
    TimedOut(Duration),
    Failed(BoxError),
}

impl Connector {
    /// What no number of attempts would connect to.
    fn refuse(&self, to: &Uri) -> Option<ConnectFailure> {
        match (to.scheme(), &self.scheme) {
            (Some(scheme), Schemes::Http(_)) if *scheme == Scheme::HTTPS => Some(ConnectFailure::NoTls),
            (Some(scheme), _) if *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS => None,
            _ => Some(ConnectFailure::Scheme),
        }
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = ConnectFailure;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, ConnectFailure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let ready = match &mut self.scheme {
            Schemes::Http(http) => ready!(http.poll_ready(cx)).map_err(BoxError::from),
            Schemes::HttpAndHttps(https) => ready!(https.poll_ready(cx)),
        };
        Poll::Ready(ready.map_err(ConnectFailure::Failed))
    }

    // Boxed: hyper-rustls hands out nothing else, and a connection is rare beside a call.
    fn call(&mut self, to: Uri) -> Self::Future {
        if let Some(failure) = self.refuse(&to) {
            return Box::pin(std::future::ready(Err(failure)));
        }
        let connecting: Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>> =
            match &mut self.scheme {
                Schemes::Http(http) => {
                    let connecting = http.call(to);
                    Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
                }
                Schemes::HttpAndHttps(https) => https.call(to),
            };
        let (limit, counts) = (self.limit, Arc::clone(&self.counts));
        Box::pin(async move {
            let since = Instant::now();
            let mut connecting = pin!(timeout(limit, connecting));
            let connected = poll_fn(|cx| {
                let polled = connecting.as_mut().poll(cx);
                if polled.is_pending() {
                    connecting::note(since);
                }
                polled
            });
            let result = match connected.await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) if timed_out(&*error) => Err(ConnectFailure::TimedOut(limit)),
                Ok(Err(error)) => Err(ConnectFailure::Failed(error)),
                Err(_elapsed) => Err(ConnectFailure::TimedOut(limit)),
            };
            let count = if result.is_ok() { &counts.opened } else { &counts.failed };
            count.fetch_add(1, Relaxed);
            result
        })
    }
}

/// Whether the last of a host's addresses ran out of its share of the time, which hyper counts by itself.
fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    let mut link = Some(error);
    // A chain that long is a circle.
    for _ in 0..64 {
        let Some(error) = link else { break };
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        link = error.source();
    }
    false
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTls => f.write_str("https needs TLS"),
            Self::Scheme => f.write_str("the scheme is neither http nor https"),
            Self::TimedOut(limit) => write!(f, "no connection within {limit:?}"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl StdError for ConnectFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Self::Failed(error) = self { error.source() } else { None }
    }
}
