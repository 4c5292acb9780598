use std::{net::IpAddr, sync::Arc};

use http::{HeaderMap, HeaderName, header};

use super::{Network, forwarded};

/// In which field the proxies say for whom they ask.
///
/// It is one of them, since a proxy writes one and lets the other pass as its client sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forwarding {
    /// `X-Forwarded-For`: nginx, Apache, HAProxy, Envoy and the load balancers of the clouds.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// The proxies whose word is believed.
#[derive(Debug, Clone)]
pub struct Proxies {
    networks: Arc<[Network]>,
    forwarding: Forwarding,
}

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

impl Proxies {
    /// So many proxies, one behind the other, are passed at most.
    pub const MAX: usize = 16;

    /// Believes the proxies in these networks, which use that field.
    pub fn new(forwarding: Forwarding, networks: impl IntoIterator<Item = Network>) -> Self {
        Self { networks: networks.into_iter().collect(), forwarding }
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Goes from the peer towards the client for as long as there is a proxy that is believed.
    pub(super) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        if !self.trust(client) {
            return client;
        }
        let name = match self.forwarding {
            Forwarding::XForwardedFor => X_FORWARDED_FOR,
            Forwarding::Forwarded => header::FORWARDED,
        };
        for entry in forwarded::entries(headers, &name).take(Self::MAX) {
            let address = match self.forwarding {
                Forwarding::XForwardedFor => forwarded::x_forwarded_for(entry),
                Forwarding::Forwarded => forwarded::forwarded(entry),
            };
            let Some(address) = address else { break };
            client = address;
            if !self.trust(client) {
                break;
            }
        }
        client
    }
}
