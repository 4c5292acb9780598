use std::{error, fmt, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sfv::{KeyRef, ListSerializer, ParameterSerializer, RefBareItem, StringRef, TokenRef, integer, key_ref};

/// Why a request is sent on: the `fwd` of `Cache-Status` (RFC 9211, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forward {
    /// The cache does not handle such a request.
    Bypass,
    /// Its method is never answered from the store.
    Method,
    /// Nothing is stored for its address.
    UriMiss,
    /// What is stored for its address answers other requests (`Vary`).
    VaryMiss,
    /// Nothing was found; nobody looked why.
    Miss,
    /// What is stored is fresh, and the request does not take it.
    Request,
    /// What is stored is stale.
    Stale,
    /// Parts are asked for that are not made from what is stored.
    Partial,
}

impl Forward {
    /// As it stands in the field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// The name of a cache in `Cache-Status`. A clone costs no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheName(Arc<str>);

/// A name that cannot stand in a header: an empty one, or with other characters than the printable ones of ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCacheName(());

impl fmt::Display for InvalidCacheName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a cache is made of printable ASCII characters, one at least")
    }
}

impl error::Error for InvalidCacheName {}

impl CacheName {
    /// A name such as `edge` or `"the edge in Paris"`, here without its quotes. In the field it is a token where it can be
    /// one, else a string.
    ///
    /// # Errors
    /// When it is empty, or has a character that is not a printable one of ASCII.
    pub fn try_new(name: &str) -> Result<Self, InvalidCacheName> {
        if name.is_empty() || StringRef::from_str(name).is_err() {
            return Err(InvalidCacheName(()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// How a cache handled a request: one member of the `Cache-Status` field (RFC 9211).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus {
    forward: Option<Forward>,
    forward_status: Option<StatusCode>,
    is_stored: bool,
    is_collapsed: bool,
    ttl: Option<i64>,
    detail: Option<&'static str>,
}

impl CacheStatus {
    /// Answered from the store, with a response that is fresh for so many more seconds; below 0, it is stale.
    #[must_use]
    pub const fn hit(ttl: i64) -> Self {
        Self::new(None).ttl(ttl)
    }

    /// Sent on.
    #[must_use]
    pub const fn forward(why: Forward) -> Self {
        Self::new(Some(why))
    }

    const fn new(forward: Option<Forward>) -> Self {
        Self { forward, forward_status: None, is_stored: false, is_collapsed: false, ttl: None, detail: None }
    }

    /// The status of the answer to the request that was sent on.
    #[must_use]
    pub const fn forward_status(mut self, status: StatusCode) -> Self {
        self.forward_status = Some(status);
        self
    }

    /// That answer is stored.
    #[must_use]
    pub const fn stored(mut self) -> Self {
        self.is_stored = true;
        self
    }

    /// The request shared the one that was sent on for another.
    #[must_use]
    pub const fn collapsed(mut self) -> Self {
        self.is_collapsed = true;
        self
    }

    /// More about it: a token, or any text of printable ASCII characters. Other text is left out.
    #[must_use]
    pub const fn detail(mut self, detail: &'static str) -> Self {
        self.detail = Some(detail);
        self
    }

    /// For how many more seconds the answer is fresh; below 0, it is stale.
    #[must_use]
    pub const fn ttl(mut self, seconds: i64) -> Self {
        self.ttl = Some(seconds);
        self
    }

    /// Writes it behind what the caches nearer to the origin have written.
    pub fn add_to(&self, headers: &mut HeaderMap, name: &CacheName) {
        let mut list = ListSerializer::new();
        if let Some(item) = token_or_string(&name.0) {
            self.write(list.bare_item(item));
        }
        if let Some(value) = list.finish().and_then(|list| HeaderValue::try_from(list).ok()) {
            headers.append(CACHE_STATUS, value);
        }
    }

    fn write<'a>(&self, mut member: ParameterSerializer<&'a mut String>) -> &'a mut String {
        const HIT: &KeyRef = key_ref("hit");
        const FORWARD: &KeyRef = key_ref("fwd");
        const FORWARD_STATUS: &KeyRef = key_ref("fwd-status");
        const STORED: &KeyRef = key_ref("stored");
        const COLLAPSED: &KeyRef = key_ref("collapsed");
        const TTL: &KeyRef = key_ref("ttl");
        const DETAIL: &KeyRef = key_ref("detail");
        const MOST: i64 = 999_999_999_999_999;
        member = match self.forward.map(|why| token_or_string(why.as_str())) {
            None => member.parameter(HIT, true),
            Some(None) => member,
            Some(Some(why)) => member.parameter(FORWARD, why),
        };
        if let Some(status) = self.forward_status {
            member = member.parameter(FORWARD_STATUS, integer(i64::from(status.as_u16())));
        }
        if let Some(ttl) = self.ttl {
            member = member.parameter(TTL, integer(ttl.clamp(-MOST, MOST)));
        }
        if self.is_stored {
            member = member.parameter(STORED, true);
        }
        if self.is_collapsed {
            member = member.parameter(COLLAPSED, true);
        }
        if let Some(detail) = self.detail.and_then(token_or_string) {
            member = member.parameter(DETAIL, detail);
        }
        member.finish()
    }
}

fn token_or_string(text: &str) -> Option<RefBareItem<'_>> {
    if let Ok(token) = TokenRef::from_str(text) {
        return Some(RefBareItem::Token(token));
    }
    StringRef::from_str(text).ok().map(RefBareItem::String)
}
