use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use buttress_core::{BoxError, Origin};
use http_body::Body;
use hyper_rustls::HttpsConnector;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;

use crate::{
    client::HttpClient,
    connect::{Connector, Counts, Schemes},
    tls,
};

/// Settings of an [`HttpClient`], made by [`HttpClient::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing unless built"]
pub struct Builder {
    name: String,
    connect_timeout: Duration,
    pool_idle_timeout: Duration,
    pool_max_idle_per_host: usize,
    http2: bool,
    tls: Option<ClientConfig>,
}

/// A connection that is silent so long is probed by TCP, so often, and given up after so many probes without an answer:
/// two minutes in all.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// hyper adds it to the time, which must not overflow.
const LONGEST_IDLE: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            name: "default".to_owned(),
            connect_timeout: Duration::from_secs(5),
            // Below what servers and balancers grant (60 s and more), so that this side closes first: a request on a
            // connection that the other side is closing fails.
            pool_idle_timeout: Duration::from_secs(50),
            pool_max_idle_per_host: 100,
            http2: true,
            tls: None,
        }
    }

    /// The instance's name in rejections and metrics. `default` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// How long resolving a host's name, connecting and the TLS handshake may take together. 5 s by default.
    pub fn connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit;
        self
    }

    /// How long a connection is kept without a request; zero keeps none, so that each call opens one. 50 s by default;
    /// more than 30 years is taken as 30 years. Choose it below the servers': a request that meets a closing connection
    /// fails, unless hyper sees it in time to send it on another.
    pub fn pool_idle_timeout(mut self, limit: Duration) -> Self {
        self.pool_idle_timeout = limit;
        self
    }

    /// How many idle connections are kept for one host; 0 keeps none. 100 by default. It does not limit the
    /// connections in use: put a concurrency limit around the client for that.
    pub fn pool_max_idle_per_host(mut self, count: usize) -> Self {
        self.pool_max_idle_per_host = count;
        self
    }

    /// Whether HTTP/2 is offered in the TLS handshake (ALPN). It is by default. Plain `http` is always HTTP/1.1.
    pub fn http2(mut self, offered: bool) -> Self {
        self.http2 = offered;
        self
    }

    /// TLS by this configuration: other roots, a client certificate, another provider. It needs no feature of this
    /// crate. Where its ALPN protocols are empty, they are set according to [`http2`](Self::http2).
    ///
    /// Make it by `ClientConfig::builder_with_provider`: `ClientConfig::builder()` panics where two providers are
    /// compiled in.
    pub fn tls_config(mut self, config: ClientConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Makes the client. It connects to nobody yet, and needs a tokio runtime only once it is called.
    ///
    /// # Errors
    /// If the connect timeout is zero, or the TLS provider does not support rustls's default versions.
    pub fn build<B>(self) -> Result<HttpClient<B>, InvalidConfig>
    where
        B: Body + Send,
        B::Data: Send,
    {
        if self.connect_timeout.is_zero() {
            return Err(InvalidConfig::ZeroConnectTimeout);
        }
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        // Divided among a host's addresses, so that a dead one leaves time for the next.
        http.set_connect_timeout(Some(self.connect_timeout));
        // Without it, a call of HTTP/1.1 to a peer that has vanished waits for ever.
        http.set_keepalive(Some(KEEPALIVE_AFTER));
        http.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        http.set_keepalive_retries(Some(KEEPALIVE_PROBES));

        let scheme = match self.tls.map_or_else(tls::default_config, |config| Ok(Some(config))) {
            Ok(None) => Schemes::Http(http),
            Ok(Some(config)) => Schemes::HttpAndHttps(https(http, config, self.http2)),
            Err(error) => return Err(InvalidConfig::Tls(error.into())),
        };
        let counts = Arc::new(Counts::default());
        let connector = Connector { scheme, limit: self.connect_timeout, counts: Arc::clone(&counts) };

        // To hyper, an idle time of zero means that no task closes what is idle.
        let max_idle = if self.pool_idle_timeout.is_zero() { 0 } else { self.pool_max_idle_per_host };
        let client = Client::builder(TokioExecutor::new())
            // Without a timer, idle connections are closed only when somebody asks for one.
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new())
            .pool_idle_timeout(self.pool_idle_timeout.min(LONGEST_IDLE))
            .pool_max_idle_per_host(max_idle)
            // One HTTP/2 connection carries every call to a host. Where it dies silently, nothing but a ping tells.
            .http2_keep_alive_interval(Duration::from_secs(10))
            .http2_keep_alive_timeout(Duration::from_secs(10))
            .build(connector);
        Ok(HttpClient::new(client, Origin::new("http", &self.name), counts))
    }
}

fn https(http: HttpConnector, mut config: ClientConfig, http2: bool) -> HttpsConnector<HttpConnector> {
    if config.alpn_protocols.is_empty() {
        if http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    HttpsConnector::from((http, config))
}

/// Why a client cannot be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// The connect timeout is zero, so nothing could ever connect.
    ZeroConnectTimeout,
    /// The TLS provider cannot do what rustls asks of it.
    Tls(BoxError),
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroConnectTimeout => f.write_str("a connect timeout of zero lets nothing connect"),
            Self::Tls(error) => write!(f, "no TLS with this provider: {error}"),
        }
    }
}

impl StdError for InvalidConfig {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        if let Self::Tls(error) = self { Some(&**error) } else { None }
    }
}
