use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use buttress_core::retry_after;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::peer::Peer;

/// How much of a refusal's body is kept.
pub(crate) const KEPT: usize = 8 * 1024;

/// An answer whose status is not 2xx, with its headers and the first 8 KiB of its body.
///
/// `Debug` shows the headers' names, and the values of those alone that cannot be secret; neither it nor `Display` shows
/// the body.
pub struct StatusError {
    pub(crate) peer: Peer,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) truncated: bool,
}

impl StatusError {
    /// Who answered.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The headers, all of them.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// How long the server asks to wait: see [`retry_after`](crate::retry_after()).
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        retry_after(&self.headers)
    }

    /// The body, or its first 8 KiB.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body to be read by a person: what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The body as JSON, such as the problem details of RFC 9457. `None` where it is something else, or not all of it is
    /// there.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        if self.truncated { None } else { serde_json::from_slice(&self.body).ok() }
    }

    /// Whether the body had more than is kept, or broke off.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answered {}", self.peer, self.status)?;
        match self.retry_after() {
            Some(after) => write!(f, "; it asks to wait {after:?}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusError")
            .field("peer", &self.peer)
            .field("status", &self.status)
            .field("headers", &Discreet(&self.headers))
            .field("body_len", &self.body.len())
            .field("truncated", &self.truncated)
            .finish()
    }
}

impl StdError for StatusError {}

/// Headers to be looked at in a log: a server may put a secret into any that is not known to hold none.
pub(crate) struct Discreet<'a>(pub(crate) &'a HeaderMap);

impl fmt::Debug for Discreet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HARMLESS: [HeaderName; 8] = [
            header::ALLOW,
            header::CACHE_CONTROL,
            header::CONTENT_ENCODING,
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::DATE,
            header::RETRY_AFTER,
            header::SERVER,
        ];
        let mut map = f.debug_map();
        for (name, value) in self.0 {
            if HARMLESS.contains(name) && !value.is_sensitive() {
                map.entry(name, value);
            } else {
                map.entry(name, &format_args!("hidden"));
            }
        }
        map.finish()
    }
}
