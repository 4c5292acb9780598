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
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{BoxError, Rejected, Setting};
use http::{Uri, uri::Scheme};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::{
    connecting::{self, Waits},
    dial::{Dialed, Dialer},
    places::Places,
    stream,
};

/// Name resolution, TCP and TLS under one time limit: hyper's own limits the TCP handshake alone.
///
/// It is one reference, because hyper copies it for every call, as a part of the client.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Connecting>);

pub(crate) struct Connecting {
    pub(crate) scheme: Schemes,
    pub(crate) limit: Duration,
    pub(crate) counts: Arc<Counts>,
    pub(crate) places: Arc<Places>,
}

#[derive(Clone)]
pub(crate) enum Schemes {
    Http(Dialer),
    HttpAndHttps(HttpsConnector<Dialer>),
}

#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) settings: Box<[Setting]>,
    pub(crate) opened: AtomicU64,
    pub(crate) failed: AtomicU64,
}

impl Counts {
    pub(crate) const fn new(settings: Box<[Setting]>) -> Self {
        Self { settings, opened: AtomicU64::new(0), failed: AtomicU64::new(0) }
    }
}

/// What a connection is: plain or TLS.
type Io = MaybeHttpsStream<Dialed>;
type Stream = stream::Stream<Io>;

#[derive(Debug)]
pub(crate) enum ConnectFailure {
    NoTls,
    Scheme,
    TimedOut(Duration),
    /// There was no place for it.
    Refused(Rejected),
    /// The call that it was begun for has another connection.
    Unwanted,
    Failed(BoxError),
}

impl Connector {
    pub(crate) fn new(connecting: Connecting) -> Self {
        Self(Arc::new(connecting))
    }

    /// What no number of attempts would connect to.
    fn refuse(&self, to: &Uri) -> Option<ConnectFailure> {
        match (to.scheme(), &self.0.scheme) {
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

    /// Whoever dials is asked in the call, once there is a place.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    // Boxed: hyper-rustls hands out nothing else, and a connection is rare beside a call.
    fn call(&mut self, to: Uri) -> Self::Future {
        if let Some(failure) = self.refuse(&to) {
            return Box::pin(std::future::ready(Err(failure)));
        }
        let Connecting { scheme, limit, counts, places } = &*self.0;
        let place = Arc::clone(places).place(to.clone(), *limit);
        let connecting: Pin<Box<dyn Future<Output = Result<Io, BoxError>> + Send>> = match scheme {
            Schemes::Http(http) => {
                let connecting = oneshot(http.clone(), to);
                Box::pin(async move { Ok(MaybeHttpsStream::Http(connecting.await?)) })
            }
            Schemes::HttpAndHttps(https) => Box::pin(oneshot(https.clone(), to)),
        };
        let (limit, counts, places) = (*limit, Arc::clone(counts), Arc::clone(places));
        Box::pin(async move {
            let place = place.await?;
            let since = Instant::now();
            let mut connecting = pin!(timeout(limit, connecting));
            let connected = poll_fn(|cx| {
                let polled = connecting.as_mut().poll(cx);
                if polled.is_pending() {
                    connecting::note(Waits::Connection(since));
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
            places.open(result?, place)
        })
    }
}

async fn oneshot<S: Service<Uri>>(mut service: S, to: Uri) -> Result<S::Response, S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(to).await
}

/// Whether the last of a host's addresses ran out of its share of the time, which hyper counts by itself.
pub(crate) fn timed_out(error: &(dyn StdError + 'static)) -> bool {
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
            Self::Refused(rejected) => rejected.fmt(f),
            Self::Unwanted => f.write_str("nobody waits for it"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl StdError for ConnectFailure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Self::Failed(error) = self { error.source() } else { None }
    }
}
