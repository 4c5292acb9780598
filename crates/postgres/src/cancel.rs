//! Asks the server to cancel what a connection runs.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::{
    TryFutureExt,
    future::{MapOk, join_all},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_postgres::{
    CancelToken, Config,
    config::Host,
    tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream},
};

use crate::{PostgresConfig, StatementMode, tls::Tls};

/// How requests to cancel are made, each on a connection of its own.
#[derive(Clone)]
pub(crate) struct Canceller {
    tls: Tls,
    /// The pooler's, if there is one.
    poolers: Vec<Pooler>,
}

/// PgBouncer forgets a request whose sender hangs up before it was passed on, and the driver hangs up at once. So poolers
/// are asked here. The driver does not tell to which of several it is connected; to the others a request means nothing.
#[derive(Clone)]
struct Pooler {
    /// What its certificate names.
    name: String,
    place: Place,
}

#[derive(Clone)]
enum Place {
    Tcp(String, u16),
    #[cfg(unix)]
    Unix(PathBuf),
}

impl Canceller {
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        let is_pooled = config.statement_mode == StatementMode::Unnamed;
        let poolers = if is_pooled { Pooler::all(&config.driver) } else { Vec::new() };
        Self { tls: config.tls.clone(), poolers }
    }

    /// Whether the request came through is told by what comes of it.
    pub(crate) async fn request(&self, token: &CancelToken) {
        if self.poolers.is_empty() {
            let _sent = token.cancel_query(self.tls.clone()).await;
        }
        // All at once: one that does not answer would keep the others from being asked in time.
        join_all(self.poolers.iter().map(|pooler| pooler.ask(token, self.tls.clone()))).await;
    }
}

impl Pooler {
    fn all(config: &Config) -> Vec<Self> {
        let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let pooler = |n: usize| {
            let port = ports.get(n).or(ports.first()).copied().unwrap_or(5432);
            let address = addresses.get(n).map(ToString::to_string);
            match hosts.get(n) {
                #[cfg(unix)]
                Some(Host::Unix(folder)) => {
                    Self { name: String::new(), place: Place::Unix(folder.join(format!(".s.PGSQL.{port}"))) }
                }
                Some(Host::Tcp(name)) => Self {
                    name: name.clone(),
                    place: Place::Tcp(address.unwrap_or_else(|| name.clone()), port),
                },
                None => Self { name: String::new(), place: Place::Tcp(address.unwrap_or_default(), port) },
            }
        };
        (0..hosts.len().max(addresses.len())).map(pooler).collect()
    }

    async fn ask(&self, token: &CancelToken, tls: Tls) -> io::Result<()> {
        match &self.place {
            Place::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                self.ask_on(stream, token, tls).await
            }
            #[cfg(unix)]
            Place::Unix(path) => self.ask_on(tokio::net::UnixStream::connect(path).await?, token, tls).await,
        }
    }

    async fn ask_on<S>(&self, stream: S, token: &CancelToken, mut tls: Tls) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = Patient(stream);
        let tls =
            MakeTlsConnect::<Patient<S>>::make_tls_connect(&mut tls, &self.name).map_err(io::Error::other)?;
        token.cancel_query_raw(stream, Patient(tls)).await.map_err(io::Error::other)
    }
}

/// A stream that does not hang up by itself, but waits until the other side has done so.
struct Patient<S>(S);

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The answer to a request to cancel is that there is none. One that sends without end is left when time is up.
        loop {
            let mut byte = [0];
            let mut buf = ReadBuf::new(&mut byte);
            let read = ready!(Pin::new(&mut self.0).poll_read(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl<S: TlsStream + Unpin> TlsStream for Patient<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.0.channel_binding()
    }
}

impl<S, T: TlsConnect<S>> TlsConnect<S> for Patient<T> {
    type Stream = Patient<T::Stream>;
    type Error = T::Error;
    type Future = MapOk<T::Future, fn(T::Stream) -> Patient<T::Stream>>;

    fn connect(self, stream: S) -> Self::Future {
        self.0.connect(stream).map_ok(Patient)
    }
}
