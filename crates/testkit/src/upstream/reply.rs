//! What one request is answered with.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// One answer of an [`Upstream`](crate::Upstream), or one way to fail to give it.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) latency: Duration,
    pub(super) ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Head and body as they should be.
    Complete,
    /// The connection is closed instead of a head.
    NoHead,
    /// Nothing is ever sent.
    Never,
    /// The connection is closed after so many bytes of the body.
    Cut(usize),
    /// The connection stays open, but nothing comes after so many bytes of the body.
    Stall(usize),
}

impl Reply {
    /// 200 with this body.
    pub fn ok(body: impl Into<Bytes>) -> Self {
        Self::status(200).body(body)
    }

    /// This status with an empty body.
    ///
    /// # Panics
    /// When it is no status code.
    pub fn status(code: u16) -> Self {
        Self {
            status: StatusCode::from_u16(code).expect("a status code"),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            latency: Duration::ZERO,
            ending: Ending::Complete,
        }
    }

    /// Reads the request and closes the connection without a word.
    pub fn disconnect() -> Self {
        Self { ending: Ending::NoHead, ..Self::status(200) }
    }

    /// Reads the request and never answers.
    pub fn never() -> Self {
        Self { ending: Ending::Never, ..Self::status(200) }
    }

    /// Adds a header field.
    ///
    /// # Panics
    /// When name or value are not allowed in a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
        self.headers.append(name, HeaderValue::from_str(value).expect("a header value"));
        self
    }

    /// Sets the body; its length is announced.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Waits so long before the head, or before the disconnect.
    #[must_use]
    pub fn after(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sends the head and `bytes` of the body, then closes the connection. Zero closes right after the head.
    ///
    /// # Panics
    /// When the body is not longer than that: nothing would be cut.
    #[must_use]
    pub fn cut_after(mut self, bytes: usize) -> Self {
        self.assert_longer_than(bytes);
        self.ending = Ending::Cut(bytes);
        self
    }

    /// Sends the head and `bytes` of the body, then nothing more, on a connection that stays open.
    ///
    /// # Panics
    /// When the body is not longer than that: nothing would be missing.
    #[must_use]
    pub fn stall_after(mut self, bytes: usize) -> Self {
        self.assert_longer_than(bytes);
        self.ending = Ending::Stall(bytes);
        self
    }

    fn assert_longer_than(&self, bytes: usize) {
        assert!(bytes < self.body.len(), "set a body longer than {bytes} bytes first");
    }
}
