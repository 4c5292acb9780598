use std::fmt;

use http::{Uri, uri::Authority};

/// Whom a request was for: host and port, and nothing else of its URL.
///
/// What else a URL holds may be secret (userinfo, query), so it gets into no error and no log line.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Peer(Option<Authority>);

impl Peer {
    pub(crate) fn of(uri: &Uri) -> Self {
        Self(uri.authority().cloned())
    }

    pub(crate) fn at(authority: Authority) -> Self {
        Self(Some(authority))
    }

    /// The host, if the request named one.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.0.as_ref().map(Authority::host)
    }

    /// The port, if the request named one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.0.as_ref().and_then(Authority::port_u16)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host(), self.port()) {
            (Some(host), Some(port)) => write!(f, "{host}:{port}"),
            (Some(host), None) => f.write_str(host),
            (None, _) => f.write_str("an unnamed host"),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}
