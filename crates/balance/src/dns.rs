//! Endpoints from the DNS.

mod answers;
mod endpoints;
mod error;
mod lookup;
mod resolution;

use std::{net::SocketAddr, time::Duration};

use buttress_core::Backoff;

use self::lookup::Lookups;
pub use self::{
    endpoints::DnsEndpoints,
    error::{DnsError, InvalidDns},
    resolution::Resolution,
};
use crate::Endpoint;

/// A name of the DNS, and how it is looked up: its A and AAAA records, again when their TTL ends.
///
/// ```no_run
/// use std::net::SocketAddr;
/// use buttress_balance::{Dns, Endpoint};
///
/// # fn client(_: SocketAddr) {}
/// let endpoints = Dns::new("stock.internal", 8080).endpoints(|addr: SocketAddr| Endpoint::new(client(addr)))?;
/// # Ok::<_, buttress_balance::InvalidDns>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dns {
    host: String,
    port: u16,
    server: Option<SocketAddr>,
    ttl: Ttl,
    backoff: Backoff,
}

/// The bounds of a TTL.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ttl {
    floor: Duration,
    ceiling: Duration,
}

impl Ttl {
    fn within(self, seconds: u32) -> Duration {
        Duration::from_secs(u64::from(seconds)).clamp(self.floor, self.ceiling)
    }
}

impl Dns {
    /// This host, whose servers listen on this port. As everywhere, a name without a final dot is also looked for below the
    /// search domains of the system.
    #[must_use]
    pub fn new(host: &str, port: u16) -> Self {
        let ttl = Ttl { floor: Duration::from_secs(1), ceiling: Duration::from_secs(300) };
        Self { host: host.to_owned(), port, server: None, ttl, backoff: Backoff::default() }
    }

    /// Asks this DNS server, by UDP and TCP, and nobody else. Default: `/etc/hosts` and the servers of `/etc/resolv.conf`,
    /// both read once, when the endpoints are made.
    #[must_use]
    pub const fn server(mut self, server: SocketAddr) -> Self {
        self.server = Some(server);
        self
    }

    /// Takes a shorter TTL for `floor`, and a longer one for `ceiling`. Default: 1 s and 5 min.
    #[must_use]
    pub const fn ttl_between(mut self, floor: Duration, ceiling: Duration) -> Self {
        self.ttl = Ttl { floor, ceiling };
        self
    }

    /// Waits so long after a lookup that failed. Default: 100 ms, doubling, at most 10 s, with full jitter.
    #[must_use]
    pub const fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// The source of endpoints: `make` is called once for each address that appears.
    ///
    /// # Errors
    /// If the name is none, the port is 0, the bounds of the TTL are zero or the wrong way round, or `/etc/resolv.conf`
    /// cannot be used. No lookup is made here: that the name exists shows later.
    pub fn endpoints<S, F>(self, make: F) -> Result<DnsEndpoints<F>, InvalidDns>
    where
        F: FnMut(SocketAddr) -> Endpoint<S>,
    {
        let Self { host, port, server, ttl, backoff } = self;
        if port == 0 {
            return Err(InvalidDns::PortZero);
        }
        if ttl.floor.is_zero() || ttl.floor > ttl.ceiling {
            return Err(InvalidDns::Ttl { floor: ttl.floor, ceiling: ttl.ceiling });
        }
        let lookups = Lookups::new(&host, server)?;
        Ok(DnsEndpoints::new(&host, port, lookups, ttl, backoff, make))
    }
}
