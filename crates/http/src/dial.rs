use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use buttress_core::{BoxError, Setting};
use http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::{
    client::legacy::connect::{
        Connected, Connection, HttpConnector,
        dns::{GaiResolver, Name},
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower_service::Service;

use crate::{
    builder::{Builder, InvalidConfig},
    settings::on,
};

/// A connection that is silent so long is probed by TCP, so often, and given up after so many probes without an answer:
/// two minutes in all.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// What a builder was told about where to connect to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dial {
    addresses: Option<Arc<[SocketAddr]>>,
    #[cfg(feature = "proxy")]
    pub(crate) proxy: Option<crate::proxy::Proxy>,
}

impl Builder {
    /// Connects to these addresses, whatever host and port a URL names. `Host` and the name that TLS checks stay the
    /// URL's.
    ///
    /// They are tried in their order, IPv4 and IPv6 in parallel where one of them takes long, each with its share of the
    /// [`connect_timeout`](Self::connect_timeout); the first that accepts is used. No address, or one with port 0, is an
    /// error when the client is built.
    pub fn connect_to(mut self, addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        self.dial.addresses = Some(addresses.into_iter().collect());
        self
    }
}

impl Dial {
    pub(crate) fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        visit(Setting::new("connect_to", on(self.addresses.is_some())));
        #[cfg(feature = "proxy")]
        visit(Setting::new("proxy", on(self.proxy.is_some())));
    }

    pub(crate) fn dialer(
        &self,
        limit: Duration,
        tls: Option<&rustls::ClientConfig>,
    ) -> Result<Dialer, InvalidConfig> {
        #[cfg(feature = "proxy")]
        if let Some(proxy) = &self.proxy {
            if self.addresses.is_some() {
                return Err(InvalidConfig::Conflict("proxy", "connect_to"));
            }
            return Ok(Dialer::Proxied(proxy.dialer(tcp(GaiResolver::new(), limit), tls)?));
        }
        let _ = tls;
        match &self.addresses {
            None => Ok(Dialer::Named(tcp(GaiResolver::new(), limit))),
            Some(addresses) if addresses.is_empty() || addresses.iter().any(|addr| addr.port() == 0) => {
                Err(InvalidConfig::Addresses)
            }
            Some(addresses) => Ok(Dialer::Given(tcp(Addresses(Arc::clone(addresses)), limit))),
        }
    }
}

fn tcp<R>(resolver: R, limit: Duration) -> HttpConnector<R> {
    let mut tcp = HttpConnector::new_with_resolver(resolver);
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    // Divided among a host's addresses, so that a dead one leaves time for the next.
    tcp.set_connect_timeout(Some(limit));
    // Without it, a call of HTTP/1.1 to a peer that has vanished waits for ever.
    tcp.set_keepalive(Some(KEEPALIVE_AFTER));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
    tcp
}

/// Opens what a connection to a URL's host runs over.
#[derive(Debug, Clone)]
pub(crate) enum Dialer {
    Named(HttpConnector),
    Given(HttpConnector<Addresses>),
    #[cfg(feature = "proxy")]
    Proxied(crate::proxy::Dialer),
}

pub(crate) type Dialing = Pin<Box<dyn Future<Output = Result<Dialed, BoxError>> + Send>>;

impl Service<Uri> for Dialer {
    type Response = Dialed;
    type Error = BoxError;
    type Future = Dialing;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self {
            Self::Named(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            Self::Given(tcp) => tcp.poll_ready(cx).map_err(Into::into),
            #[cfg(feature = "proxy")]
            Self::Proxied(dialer) => dialer.poll_ready(cx),
        }
    }

    fn call(&mut self, to: Uri) -> Dialing {
        match self {
            Self::Named(tcp) => {
                let dialing = tcp.call(to);
                Box::pin(async move { Ok(Dialed::direct(dialing.await?)) })
            }
            Self::Given(tcp) => {
                // A port in the URL would replace the addresses', and a host that is an address all of them.
                let dialing = tcp.call(Uri::from_static("http://given/"));
                Box::pin(async move { Ok(Dialed::direct(dialing.await?)) })
            }
            #[cfg(feature = "proxy")]
            Self::Proxied(dialer) => dialer.call(to),
        }
    }
}

/// A resolver that knows one answer.
#[derive(Debug, Clone)]
pub(crate) struct Addresses(Arc<[SocketAddr]>);

impl Service<Name> for Addresses {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(Vec::from(&*self.0).into_iter()))
    }
}

/// What was dialed: TCP, or TLS to a proxy.
pub(crate) struct Dialed {
    io: MaybeHttpsStream<TokioIo<TcpStream>>,
    /// Whether a proxy reads the requests: it needs their whole URL.
    forwarded: bool,
}

impl Dialed {
    fn direct(io: TokioIo<TcpStream>) -> Self {
        Self { io: MaybeHttpsStream::Http(io), forwarded: false }
    }

    #[cfg(feature = "proxy")]
    pub(crate) fn by_proxy(io: MaybeHttpsStream<TokioIo<TcpStream>>, forwarded: bool) -> Self {
        Self { io, forwarded }
    }
}

impl Connection for Dialed {
    fn connected(&self) -> Connected {
        self.io.connected().proxy(self.forwarded)
    }
}

impl Read for Dialed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Dialed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
