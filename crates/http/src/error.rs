use std::{error::Error as StdError, fmt, io, time::Duration};

use buttress_core::{BoxError, Reason, Rejectable, Rejected};
use hyper_util::client::legacy;

use crate::{connect::ConnectFailure, peer::Peer, untouched};

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
    /// The server closed the connection without having looked at the request: before it was written, or, with HTTP/2, it
    /// said so (`GOAWAY`, `REFUSED_STREAM`). As good as not sent.
    Canceled {
        /// Whom the request was for.
        peer: Peer,
        /// The failure below.
        source: BoxError,
    },
    /// The server was silent for so long after it had been sent the request. The request may have been carried out.
    FirstByteTimeout {
        /// Whom the request was for.
        peer: Peer,
        /// [`first_byte_timeout`](crate::Builder::first_byte_timeout).
        limit: Duration,
    },
    /// No piece of the answer's body came for so long. The request may have been carried out.
    ReadTimeout {
        /// Whom the request was for.
        peer: Peer,
        /// [`read_timeout`](crate::Builder::read_timeout).
        limit: Duration,
    },
    /// The answer's body is larger than this client takes. The request may have been carried out.
    BodyTooLarge {
        /// Whom the request was for.
        peer: Peer,
        /// [`max_response_body`](crate::Builder::max_response_body), in bytes.
        limit: u64,
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
                ConnectFailure::Refused(rejected) => Self::Rejected(*rejected),
                ConnectFailure::Failed(_) | ConnectFailure::Unwanted => {
                    Self::Connect { peer, source: error.into() }
                }
            };
        }
        if error.is_connect() {
            return Self::Connect { peer, source: error.into() };
        }
        let Some(below) = below else {
            return Self::Invalid { peer, why: Invalid::RelativeUrl };
        };
        let Some(below) = below.downcast_ref::<hyper::Error>() else {
            // The pool's own: the connection it gave had ended, and another's that was being made was to do for this call.
            return Self::Canceled { peer, source: error.into() };
        };
        // hyper says "canceled" of a request alone that it still holds unwritten.
        let canceled = below.is_canceled() || untouched::by_the_server(below);
        let (user, parse) = (below.is_user(), below.is_parse());
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
            Self::FirstByteTimeout { .. }
            | Self::ReadTimeout { .. }
            | Self::BodyTooLarge { .. }
            | Self::Closed { .. }
            | Self::Aborted { .. }
            | Self::Protocol { .. }
            | Self::Body { .. } => true,
        }
    }

    /// Whether a time limit ended the call: one of this client's, or a layer's or the caller's deadline. What the system
    /// itself gives up, such as a connection attempt, is a failure like any other.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Rejected(rejected) => of_time(rejected),
            Self::ConnectTimeout { .. } | Self::FirstByteTimeout { .. } | Self::ReadTimeout { .. } => true,
            _ => false,
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
            | Self::FirstByteTimeout { peer, .. }
            | Self::ReadTimeout { peer, .. }
            | Self::BodyTooLarge { peer, .. }
            | Self::Canceled { peer, .. }
            | Self::Closed { peer, .. }
            | Self::Aborted { peer, .. }
            | Self::Protocol { peer, .. }
            | Self::Body { peer, .. } => Some(peer),
        }
    }
}

pub(crate) fn of_time(rejected: &Rejected) -> bool {
    matches!(rejected.reason(), Reason::TimedOut | Reason::DeadlineExceeded)
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
            Self::FirstByteTimeout { peer, limit } => {
                write!(f, "{peer} was sent the request and did not begin to answer within {limit:?}")
            }
            Self::ReadTimeout { peer, limit } => {
                write!(f, "the answer of {peer} stood still for {limit:?}")
            }
            Self::BodyTooLarge { peer, limit } => {
                write!(f, "the answer of {peer} is larger than the {limit} bytes that are taken")
            }
            Self::Canceled { peer, .. } => {
                write!(
                    f,
                    "{peer} closed the connection before it took the request, which was not carried out"
                )
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
        fmt::Display::fmt(root(&**self.0), f)
    }
}

pub(crate) fn root<'a>(mut error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    // A chain that long is a circle.
    for _ in 0..64 {
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        match held.map(|held| held as &(dyn StdError + 'static)).or_else(|| error.source()) {
            Some(below) => error = below,
            None => break,
        }
    }
    error
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Invalid { .. }
            | Self::ConnectTimeout { .. }
            | Self::FirstByteTimeout { .. }
            | Self::ReadTimeout { .. }
            | Self::BodyTooLarge { .. } => None,
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

    fn sent(&self) -> bool {
        self.sent()
    }
}
