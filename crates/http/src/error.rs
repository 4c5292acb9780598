use std::{error::Error as StdError, fmt, io, time::Duration};

use buttress_core::{BoxError, Rejectable, Rejected};
use hyper_util::client::legacy;

use crate::{connect::ConnectFailure, peer::Peer};

/// Why a call got no answer.
///
/// It names the host, and neither userinfo, path, query nor headers; also where it is printed with `{:?}`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A layer, or this client for a deadline's sake, refused or gave up the call.
    Rejected(Rejected),
    /// The request cannot be sent as it is. Not sent.
    Invalid {
        /// Whom it was for.
        peer: Peer,
        /// What is wrong with it.
        why: Invalid,
    },
    /// There is no connection: the host's name or port leads nowhere, or the TLS handshake failed. Not sent.
    Connect {
        /// Whom the request was for.
        peer: Peer,
        /// The failure below.
        source: BoxError,
    },
    /// There was no connection in time. Not sent.
    ConnectTimeout {
        /// Whom the request was for.
        peer: Peer,
        /// The time there was: the connect timeout, or what a deadline left when connecting began.
        limit: Duration,
    },
    /// The pooled connection was closed before the request was written to it. Not sent.
    Canceled {
        /// Whom the request was for.
        peer: Peer,
        /// The failure below.
        source: BoxError,
    },
    /// The connection ended before an answer came. The request may have been carried out.
    Closed {
        /// Whom the request was for.
        peer: Peer,
        /// The failure below.
        source: BoxError,
    },
    /// This side broke the request off: its body failed, or the runtime is shutting down. A part may have been sent.
    Aborted {
        /// Whom the request was for.
        peer: Peer,
        /// The failure below.
        source: BoxError,
    },
    /// What came is not HTTP. The request may have been carried out.
    Protocol {
        /// Whom the request was for.
        peer: Peer,
        /// The failure below.
        source: BoxError,
    },
    /// The answer's body broke off. The request may have been carried out.
    Body {
        /// Whom the request was for.
        peer: Peer,
        /// The failure below.
        source: BoxError,
    },
}

/// Why a request cannot be sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// Its URL has no scheme or no host.
    RelativeUrl,
    /// Its URL's scheme is neither `http` nor `https`.
    Scheme,
    /// Its scheme is `https`, and the client has no TLS.
    NoTls,
}

impl Invalid {
    const fn sentence(self) -> &'static str {
        match self {
            Self::RelativeUrl => "its URL must be absolute, with scheme and host",
            Self::Scheme => "its URL's scheme must be http or https",
            Self::NoTls => {
                "https needs TLS: turn on the feature `tls-ring` or `tls-aws-lc-rs` of buttress-http, or give the \
                 client a `tls_config`"
            }
        }
    }
}

impl Error {
    pub(crate) fn from_legacy(error: legacy::Error, peer: Peer) -> Self {
        let below = error.source();
        if let Some(failure) = below.and_then(|below| below.downcast_ref()) {
            return match failure {
                ConnectFailure::NoTls => Self::Invalid { peer, why: Invalid::NoTls },
                ConnectFailure::Scheme => Self::Invalid { peer, why: Invalid::Scheme },
                ConnectFailure::TimedOut(limit) => Self::ConnectTimeout { peer, limit: *limit },
                ConnectFailure::Failed(_) => Self::Connect { peer, source: error.into() },
            };
        }
        if error.is_connect() {
            return Self::Connect { peer, source: error.into() };
        }
        let Some(below) = below.and_then(|below| below.downcast_ref::<hyper::Error>()) else {
            return Self::Invalid { peer, why: Invalid::RelativeUrl };
        };
        // hyper says "canceled" of a request alone that it still holds unwritten.
        let (canceled, user, parse) = (below.is_canceled(), below.is_user(), below.is_parse());
        let source = error.into();
        match () {
            () if canceled => Self::Canceled { peer, source },
            () if user => Self::Aborted { peer, source },
            () if parse => Self::Protocol { peer, source },
            () => Self::Closed { peer, source },
        }
    }

    /// Whether the request, or a part of it, may have reached the server. Where it is `false`, sending the same request
    /// again cannot do anything twice, whatever its method.
    #[must_use]
    pub fn sent(&self) -> bool {
        match self {
            Self::Rejected(rejected) => rejected.sent(),
            Self::Invalid { .. }
            | Self::Connect { .. }
            | Self::ConnectTimeout { .. }
            | Self::Canceled { .. } => false,
            Self::Closed { .. } | Self::Aborted { .. } | Self::Protocol { .. } | Self::Body { .. } => true,
        }
    }

    /// Whom the request was for; nobody where it was rejected.
    #[must_use]
    pub fn peer(&self) -> Option<&Peer> {
        match self {
            Self::Rejected(_) => None,
            Self::Invalid { peer, .. }
            | Self::Connect { peer, .. }
            | Self::ConnectTimeout { peer, .. }
            | Self::Canceled { peer, .. }
            | Self::Closed { peer, .. }
            | Self::Aborted { peer, .. }
            | Self::Protocol { peer, .. }
            | Self::Body { peer, .. } => Some(peer),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Invalid { peer, why } => {
                write!(f, "the request to {peer} cannot be sent: {}", why.sentence())
            }
            Self::Connect { peer, source } => {
                write!(f, "no connection to {peer}: {}; the request was not sent", Root(source))
            }
            Self::ConnectTimeout { peer, limit } => {
                write!(f, "no connection to {peer} within {limit:?}; the request was not sent")
            }
            Self::Canceled { peer, .. } => {
                write!(f, "{peer} closed the connection before the request was written; it was not sent")
            }
            Self::Closed { peer, source } => write!(
                f,
                "the connection to {peer} ended before an answer: {}; the request may have been carried out",
                Root(source)
            ),
            Self::Aborted { peer, source } => {
                write!(
                    f,
                    "this side broke off the request to {peer}: {}; a part may have been sent",
                    Root(source)
                )
            }
            Self::Protocol { peer, source } => write!(
                f,
                "what {peer} answered is not HTTP: {}; the request may have been carried out",
                Root(source)
            ),
            Self::Body { peer, source } => {
                write!(
                    f,
                    "the answer of {peer} broke off: {}; the request may have been carried out",
                    Root(source)
                )
            }
        }
    }
}

/// The last of a chain of errors: the ones above it say "client error (Connect)" and the like.
struct Root<'a>(&'a BoxError);

impl fmt::Display for Root<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut error: &(dyn StdError + 'static) = &**self.0;
        // A chain that long is a circle.
        for _ in 0..64 {
            let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            match held.map(|held| held as &(dyn StdError + 'static)).or_else(|| error.source()) {
                Some(below) => error = below,
                None => break,
            }
        }
        fmt::Display::fmt(error, f)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Invalid { .. } | Self::ConnectTimeout { .. } => None,
            Self::Connect { source, .. }
            | Self::Canceled { source, .. }
            | Self::Closed { source, .. }
            | Self::Aborted { source, .. }
            | Self::Protocol { source, .. }
            | Self::Body { source, .. } => Some(&**source),
        }
    }
}

impl From<Rejected> for Error {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl Rejectable for Error {
    fn rejected(&self) -> Option<&Rejected> {
        if let Self::Rejected(rejected) = self { Some(rejected) } else { None }
    }
}
