use std::{error::Error, fmt, net::IpAddr};

use http::{Extensions, Request};

use super::{Network, Proxies};

/// Who asks, by address: a key for a limiter.
///
/// An IPv6 address stands for its network, of which one client has all addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Client {
    /// An IPv4 address, or the first one of an IPv6 network.
    Address(IpAddr),
    /// Nobody knows. All of them are one, so they share one limit and are never without.
    Unknown,
}

/// The address, or `unknown`: a key for a cluster's limiter too.
impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

/// Finds out who asks.
///
/// ```
/// use std::net::SocketAddr;
/// use buttress_rate_limit::http::{Client, ClientIp, Forwarding, Proxies};
///
/// // Under axum: |extensions| Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip())
/// let clients = ClientIp::new(|extensions| Some(extensions.get::<SocketAddr>()?.ip()))
///     .behind(Proxies::new(Forwarding::XForwardedFor, ["10.0.0.0/8".parse()?]));
///
/// let peer: SocketAddr = "10.1.2.3:4711".parse()?;
/// let mut request = http::Request::new(());
/// assert_eq!(clients.of(&request), Client::Unknown);
/// request.extensions_mut().insert(peer);
/// request.headers_mut().insert("x-forwarded-for", "6.6.6.6, 203.0.113.9".parse()?);
/// assert_eq!(clients.of(&request), Client::Address("203.0.113.9".parse()?));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct ClientIp<P> {
    peer: P,
    proxies: Option<Proxies>,
    ipv6_prefix: u8,
}

impl<P: Fn(&Extensions) -> Option<IpAddr>> ClientIp<P> {
    /// Asks that function for the peer's address, which servers put into the extensions of a request. It is believed, and
    /// nobody else is.
    pub const fn new(peer: P) -> Self {
        Self { peer, proxies: None, ipv6_prefix: 64 }
    }

    /// Believes what these proxies say. Where the peer is one of them, the client is the nearest address before it that is
    /// not one itself. An entry that is no address, the seventeenth entry, or the lack of one ends the search: the client
    /// is the last address that was found.
    #[must_use]
    pub fn behind(mut self, proxies: Proxies) -> Self {
        self.proxies = Some(proxies);
        self
    }

    /// So many bits of an IPv6 address tell clients apart. Default: 64, a home's or a host's network; providers that give
    /// each client more networks would want 56 or 48.
    ///
    /// # Errors
    /// If that is zero, which would make one client of all, or more than an address has.
    pub fn ipv6_prefix(mut self, bits: u8) -> Result<Self, InvalidPrefix> {
        if bits == 0 || bits > 128 {
            return Err(InvalidPrefix { bits });
        }
        self.ipv6_prefix = bits;
        Ok(self)
    }

    /// Who asks.
    pub fn of<B>(&self, request: &Request<B>) -> Client {
        self.known(request).map_or(Client::Unknown, Client::Address)
    }

    /// Who asks, if it is known: for those who would rather refuse the others.
    pub fn known<B>(&self, request: &Request<B>) -> Option<IpAddr> {
        let peer = (self.peer)(request.extensions())?.to_canonical();
        let client = match &self.proxies {
            Some(proxies) => proxies.client(peer, request.headers()),
            None => peer,
        };
        Some(match client {
            IpAddr::V4(_) => client,
            IpAddr::V6(_) => Network::try_new(client, self.ipv6_prefix).map_or(client, Network::first),
        })
    }
}

impl<P> fmt::Debug for ClientIp<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIp")
            .field("proxies", &self.proxies)
            .field("ipv6_prefix", &self.ipv6_prefix)
            .finish_non_exhaustive()
    }
}

/// An IPv6 address has 1 to 128 bits that can tell clients apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidPrefix {
    /// The bits that were given.
    pub bits: u8,
}

impl fmt::Display for InvalidPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1 to 128 bits of an IPv6 address tell clients apart, not {}", self.bits)
    }
}

impl Error for InvalidPrefix {}
