//! The rules of an HTTP cache (RFC 9111, RFC 5861, RFC 9211): what may be stored, what may be served, what has to be asked
//! for. No input, no output, no clock: the time comes in with each question.

mod cache_status;
mod conditions;
mod directives;
mod entity_tag;
mod field;
mod freshen;
mod head;
mod invalidate;
mod judge;
mod moment;
mod range;
mod storable;
mod stored;
mod targeted;
mod vary;

#[cfg(test)]
mod tests;

use std::time::Duration;

use buttress_core::{Setting, SettingValue};
use http::{HeaderMap, Method, StatusCode, header, request};

pub use self::{
    cache_status::{CacheName, CacheStatus, Forward, InvalidCacheName},
    conditions::Conditions,
    freshen::Freshened,
    head::HeadUpdate,
    judge::Verdict,
    moment::Moment,
    range::Slice,
    storable::NotStored,
    stored::Stored,
};

/// Whose cache it is (RFC 9111, section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One client's. It may hold what is meant for one user alone. The client may still act for several users: what was
    /// answered to one `Authorization` is not given to another.
    Private,
    /// One that answers many users: a gateway's, a proxy's.
    Shared,
}

/// The rules, as far as they can be chosen. A value: cheap to copy, the same answer to the same question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    kind: Kind,
    heuristic_fraction: f64,
    heuristic_most: Duration,
    stale_if_error: Duration,
    is_targeted: bool,
}

/// What to do with a request, before the store is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approach {
    /// Look into the store.
    Lookup {
        /// The client takes a stored response alone: where there is none, the answer is `504` (RFC 9111, section 5.2.1.7).
        only_if_cached: bool,
    },
    /// Send it on, whatever is stored. A response to it is not stored, except what [`Rules::storable`] allows.
    Forward(Forward),
}

/// Of a knob that is either used or not.
pub(crate) const fn on(is_on: bool) -> SettingValue {
    if is_on { SettingValue::Word("on") } else { SettingValue::Off }
}

impl Rules {
    pub(crate) fn settings(&self, visit: &mut dyn FnMut(Setting)) {
        let stale_if_error = match self.stale_if_error {
            Duration::ZERO => SettingValue::Off,
            most => SettingValue::Duration(most),
        };
        visit(Setting::new("heuristic_fraction", SettingValue::Ratio(self.heuristic_fraction)));
        visit(Setting::new("heuristic_most", SettingValue::Duration(self.heuristic_most)));
        visit(Setting::new("stale_if_error", stale_if_error));
        visit(Setting::new("cdn_cache_control", on(self.is_targeted)));
    }

    /// Those of a client's own cache.
    #[must_use]
    pub const fn private() -> Self {
        Self::new(Kind::Private)
    }

    /// Those of a cache that answers many users.
    #[must_use]
    pub const fn shared() -> Self {
        Self::new(Kind::Shared)
    }

    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            heuristic_fraction: 0.1,
            heuristic_most: Duration::from_secs(86_400),
            stale_if_error: Duration::ZERO,
            is_targeted: false,
        }
    }

    /// How long a response that says nothing of it counts as fresh: this fraction of the time since it was last modified,
    /// `most` at most (RFC 9111, section 4.2.2). Default: a tenth, a day. A fraction of 0: never. What is not a number, or
    /// below 0, counts as 0; above 1, as 1.
    #[must_use]
    pub const fn with_heuristic(mut self, fraction: f64, most: Duration) -> Self {
        self.heuristic_fraction = if fraction >= 1.0 {
            1.0
        } else if fraction > 0.0 {
            fraction
        } else {
            0.0
        };
        self.heuristic_most = most;
        self
    }

    /// For how long after it went stale a response may be served when the origin fails, though neither it nor the request
    /// says so. What forbids to be served stale is not (RFC 9111, section 4.2.4). Default: not at all.
    #[must_use]
    pub const fn with_stale_if_error(mut self, for_at_most: Duration) -> Self {
        self.stale_if_error = for_at_most;
        self
    }

    /// Obeys `CDN-Cache-Control` (RFC 9213) in place of `Cache-Control` and `Expires`, where a response has it. For the caches
    /// of the origin's own side; not where it is meant for one that stands before this one. Default: it is not looked at.
    #[must_use]
    pub const fn with_cdn_cache_control(mut self) -> Self {
        self.is_targeted = true;
        self
    }

    /// Whose cache it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    const fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared)
    }

    /// Whether to look into the store for this request (RFC 9111, sections 2 and 4).
    ///
    /// `GET` and `HEAD` are looked up. Not so a request with `If-Match` or `If-Unmodified-Since`, which the origin alone can
    /// answer (RFC 9110, section 13.2.1), with several ranges, or with content: its answer may depend on that. A body whose
    /// length no header tells is the caller's to notice.
    #[must_use]
    pub fn approach(&self, request: &request::Parts) -> Approach {
        if request.method != Method::GET && request.method != Method::HEAD {
            return Approach::Forward(Forward::Method);
        }
        let headers = &request.headers;
        if headers.contains_key(header::IF_MATCH)
            || headers.contains_key(header::IF_UNMODIFIED_SINCE)
            || has_content(headers)
        {
            return Approach::Forward(Forward::Bypass);
        }
        if request.method == Method::GET && range::is_several(headers) {
            return Approach::Forward(Forward::Partial);
        }
        let only_if_cached = directives::RequestDirectives::of(headers).only_if_cached;
        Approach::Lookup { only_if_cached }
    }

    /// Whether the client takes nothing but a stored response (RFC 9111, section 5.2.1.7), of a request that a cache could answer.
    #[must_use]
    pub fn is_only_if_cached(request: &request::Parts) -> bool {
        request.method.is_safe() && directives::RequestDirectives::of(&request.headers).only_if_cached
    }

    /// Whether nothing may be stored of such a request (RFC 9111, section 5.2.1.5).
    #[must_use]
    pub fn forbids_storing(request: &request::Parts) -> bool {
        directives::RequestDirectives::of(&request.headers).no_store
    }

    /// Whether this answer of the origin is a failure in the sense of RFC 5861, section 4: after `500`, `502`, `503` or `504`
    /// a stale response may do ([`stale_if_error`](Self::stale_if_error)).
    #[must_use]
    pub fn is_failure(status: StatusCode) -> bool {
        matches!(status.as_u16(), 500 | 502 | 503 | 504)
    }
}

fn has_content(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get_all(header::CONTENT_LENGTH).iter().any(|length| length.as_bytes() != b"0")
}
