use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use buttress_core::{BoxError, Origin};
use http_body::Body;
use hyper_rustls::HttpsConnector;
use hyper_util::{client::legacy::Client, rt::TokioTimer};
use rustls::ClientConfig;

use crate::{
    client::HttpClient,
    connect::{Connecting, Connector, Counts, Schemes},
    dial::{Dial, Dialer},
    idle_task::Executor,
    limits::Limits,
    outgoing::Outgoing,
    places::{Caps, Places},
    pool_timer::PoolTimer,
    settings::settings,
    tls::Tls,
};

/// Settings of an [`HttpClient`], made by [`HttpClient::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing unless built"]
pub struct Builder {
    name: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) pool_idle_timeout: Duration,
    pub(crate) pool_max_idle_per_host: usize,
    pub(crate) caps: Caps,
    pub(crate) http2: bool,
    pub(crate) tls: Tls,
    pub(crate) dial: Dial,
    pub(crate) limits: Limits,
    pub(crate) outgoing: Outgoing,
}

/// hyper adds it to the time, which must not overflow.
pub(crate) const LONGEST_IDLE: Duration = Duration::from_secs(30 * 365 * 86_400);

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            name: "default".to_owned(),
            connect_timeout: Duration::from_secs(5),
            // Below what servers and balancers grant (60 s and more), so that this side closes first: a request on a
            // connection that the other side is closing fails.
            pool_idle_timeout: Duration::from_secs(50),
            pool_max_idle_per_host: 100,
            caps: Caps { per_host: 100, total: 1000, waiting: 1000 },
            http2: true,
            tls: Tls::default(),
            dial: Dial::default(),
            limits: Limits::default(),
            outgoing: Outgoing::default(),
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

    /// How many idle connections are kept for one host; 0 keeps none. 100 by default. What limits those in use
    /// as well is [`max_connections_per_host`](Self::max_connections_per_host).
    pub fn pool_max_idle_per_host(mut self, count: usize) -> Self {
        self.pool_max_idle_per_host = count;
        self
    }

    /// How many connections there may be to one host, in use, idle and being made together. 100 by default. A host is
    /// scheme, name and port, as URLs write them. Calls that would need one more wait their turn, at most
    /// [`connect_timeout`](Self::connect_timeout); one that waited in vain ends with
    /// [`Reason::Overloaded`](buttress_core::Reason::Overloaded), not sent.
    pub fn max_connections_per_host(mut self, count: usize) -> Self {
        self.caps.per_host = count;
        self
    }

    /// How many connections there may be to all hosts together. 1000 by default. Where it is reached and a call waits, an
    /// idle connection of another host is closed for it.
    pub fn max_connections(mut self, count: usize) -> Self {
        self.caps.total = count;
        self
    }

    /// How many calls may wait for a connection to be allowed. 1000 by default; more are refused at once with
    /// [`Reason::Overloaded`](buttress_core::Reason::Overloaded), not sent. With zero, none waits.
    pub fn max_waiting(mut self, count: usize) -> Self {
        self.caps.waiting = count;
        self
    }

    /// Whether HTTP/2 is offered in the TLS handshake (ALPN). It is by default. Plain `http` is always HTTP/1.1.
    pub fn http2(mut self, offered: bool) -> Self {
        self.http2 = offered;
        self
    }

    /// TLS by this configuration: another provider, other versions, a verifier of your own. It needs no feature of this
    /// crate, and excludes [`roots`](Self::roots), [`root_certificates`](Self::root_certificates) and
    /// [`client_certificate`](Self::client_certificate). Where its ALPN protocols are empty, they are set according to [`http2`](Self::http2).
    ///
    /// Make it by `ClientConfig::builder_with_provider`: `ClientConfig::builder()` panics where two providers are
    /// compiled in.
    pub fn tls_config(mut self, config: ClientConfig) -> Self {
        self.tls.config = Some(config);
        self
    }

    /// Makes the client. It connects to nobody yet, and needs a tokio runtime only once it is called.
    ///
    /// # Errors
    /// If a time limit or a cap on connections is zero, knobs exclude each other, certificates cannot be used, or the TLS
    /// provider does not support rustls's default versions: see [`InvalidConfig`].
    pub fn build<B>(self) -> Result<HttpClient<B>, InvalidConfig>
    where
        B: Body + Send,
        B::Data: Send,
    {
        if self.connect_timeout.is_zero() {
            return Err(InvalidConfig::ZeroConnectTimeout);
        }
        if self.caps.per_host == 0 || self.caps.total == 0 {
            return Err(InvalidConfig::NoConnections);
        }
        self.limits.check()?;
        let settings = settings(&self);
        let tls = self.tls.config()?;
        let dialer = self.dial.dialer(self.connect_timeout, tls.as_ref())?;
        let speaks_tls = tls.is_some();
        let scheme = match tls {
            None => Schemes::Http(dialer),
            Some(config) => Schemes::HttpAndHttps(https(dialer, config, self.http2)),
        };
        #[cfg(not(feature = "proxy"))]
        let outgoing = self.outgoing;
        #[cfg(feature = "proxy")]
        let outgoing = self.outgoing.for_proxy(self.dial.proxy.as_ref());
        let counts = Arc::new(Counts::new(settings));
        let idle_timeout = self.pool_idle_timeout.min(LONGEST_IDLE);
        let left = Arc::default();
        let timer = PoolTimer::new(idle_timeout, &left);
        let places = Arc::new(Places::new(Origin::new("http", &self.name), self.caps, timer.clone()));
        let connector = Connector::new(Connecting {
            scheme,
            limit: self.connect_timeout,
            counts: Arc::clone(&counts),
            places: Arc::clone(&places),
        });

        // To hyper, an idle time of zero means that no task closes what is idle.
        let max_idle = if self.pool_idle_timeout.is_zero() { 0 } else { self.pool_max_idle_per_host };
        let mut client = Client::builder(Executor(left));
        client
            // Without a timer, idle connections are closed only when somebody asks for one.
            .pool_timer(timer)
            .pool_idle_timeout(idle_timeout)
            .pool_max_idle_per_host(max_idle);
        // Without TLS there is no HTTP/2, and hyper would copy the timer for every call.
        if speaks_tls {
            client
                .timer(TokioTimer::new())
                // One HTTP/2 connection carries every call to a host. Where it dies silently, nothing but a ping tells.
                .http2_keep_alive_interval(Duration::from_secs(10))
                .http2_keep_alive_timeout(Duration::from_secs(10));
        }
        let client = client.build(connector);
        Ok(HttpClient::new(client, counts, places, self.limits.shared(), outgoing.if_any()))
    }
}

fn https(dialer: Dialer, mut config: ClientConfig, http2: bool) -> HttpsConnector<Dialer> {
    if config.alpn_protocols.is_empty() {
        if http2 {
            config.alpn_protocols.push(b"h2".to_vec());
        }
        config.alpn_protocols.push(b"http/1.1".to_vec());
    }
    HttpsConnector::from((dialer, config))
}

/// Why a client cannot be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// The connect timeout is zero, so nothing could ever connect.
    ZeroConnectTimeout,
    /// A cap of zero lets there be no connection.
    NoConnections,
    /// The TLS provider cannot do what rustls asks of it.
    Tls(BoxError),
    /// Certificates or a key cannot be used.
    Certificates {
        /// Which.
        which: &'static str,
        /// Why not. It quotes nothing of them.
        why: BoxError,
    },
    /// This asks for TLS, and neither the feature `tls-ring` nor `tls-aws-lc-rs` is on.
    NoTls(&'static str),
    /// These two knobs exclude each other.
    Conflict(&'static str, &'static str),
    /// `connect_to` was given no address, or one with port 0.
    Addresses,
    /// This time limit is zero, so no call could ever succeed.
    ZeroTimeout(&'static str),
}

impl fmt::Display for InvalidConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroConnectTimeout => f.write_str("a connect timeout of zero lets nothing connect"),
            Self::NoConnections => f.write_str("a cap of zero connections lets nothing connect"),
            Self::Tls(error) => write!(f, "no TLS with this provider: {error}"),
            Self::Certificates { which, why } => write!(f, "the {which} cannot be used: {why}"),
            Self::NoTls(knob) => {
                write!(
                    f,
                    "{knob} needs TLS: turn on the feature `tls-ring` or `tls-aws-lc-rs` of buttress-http"
                )
            }
            Self::Conflict(one, other) => write!(f, "{one} and {other} exclude each other"),
            Self::Addresses => f.write_str("connect_to needs at least one address, each with a port"),
            Self::ZeroTimeout(knob) => write!(f, "a {knob} of zero lets no call succeed"),
        }
    }
}

impl StdError for InvalidConfig {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Tls(error) | Self::Certificates { why: error, .. } => Some(&**error),
            _ => None,
        }
    }
}
