use std::{error::Error, fmt, sync::Arc, time::Duration};

use hickory_resolver::net::NetError;

/// A lookup that brought no address.
#[derive(Debug, Clone)]
pub struct DnsError {
    host: Arc<str>,
    why: Why,
}

#[derive(Debug, Clone)]
pub(crate) enum Why {
    /// The servers say that there is no such name, or that it has no usable address.
    Nothing,
    /// Nobody answered within the time for all attempts.
    TimedOut,
    Failed(NetError),
}

impl DnsError {
    pub(crate) fn new(host: Arc<str>, why: Why) -> Self {
        Self { host, why }
    }
}

impl fmt::Display for DnsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the lookup of {}: ", self.host)?;
        match &self.why {
            Why::Nothing => f.write_str("no such name, or no address of it"),
            Why::TimedOut => f.write_str("no answer in time"),
            Why::Failed(error) => error.fmt(f),
        }
    }
}

impl Error for DnsError {}

/// Why a [`Dns`](crate::Dns) cannot be used.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum InvalidDns {
    /// It is no name of a host.
    Host {
        /// What was given.
        host: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody listens on port 0.
    PortZero,
    /// The floor is zero or above the ceiling.
    Ttl {
        /// The shortest TTL.
        floor: Duration,
        /// The longest TTL.
        ceiling: Duration,
    },
    /// The system's settings, `/etc/resolv.conf`, cannot be used.
    System(String),
}

impl fmt::Display for InvalidDns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, why } => write!(f, "{host:?} is no name of a host: {why}"),
            Self::PortZero => f.write_str("endpoints need a port other than 0"),
            Self::Ttl { floor, ceiling } => {
                write!(
                    f,
                    "the floor of the TTL ({floor:?}) must be above zero and at most its ceiling ({ceiling:?})"
                )
            }
            Self::System(why) => {
                write!(
                    f,
                    "the system's DNS settings cannot be used ({why}): repair /etc/resolv.conf, or name a server"
                )
            }
        }
    }
}

impl Error for InvalidDns {}
