use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, Method, StatusCode, header, request, response};

use super::{
    Moment, Rules, Stored,
    directives::{RequestDirectives, ResponseDirectives},
    field::{MOST_SECONDS, age, date_of, date_value, joined, without_hop},
    stored::Inner,
    targeted::targeted,
    vary::Nominated,
};

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NotStored {
    /// Only answers to `GET` are.
    Method,
    /// It is no final response, or one that only makes sense together with a condition or a range (`206`, `304`, `416`).
    Status,
    /// The request says `no-store`.
    RequestNoStore,
    /// The response says `no-store`.
    NoStore,
    /// It is for caches that know what its status means (`must-understand`).
    NotUnderstood,
    /// It is for one user alone, and this cache is shared.
    Private,
    /// It depends on more than a request can show (`Vary: *`).
    Vary,
    /// It answers credentials, nothing says that others may have it, and this cache is shared.
    Authorization,
    /// Nothing says that it may be kept, and its status does not imply it.
    NotCacheable,
    /// It sets a cookie, nothing but its status says that it may be kept, and this cache is shared.
    SetCookie,
    /// It is not fresh, cannot be validated, and nothing lets it be used stale.
    Useless,
}

impl NotStored {
    /// As a token, for the `detail` of `Cache-Status`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::NotUnderstood => "must-understand",
            Self::Private => "private",
            Self::Vary => "vary",
            Self::Authorization => "authorization",
            Self::NotCacheable => "not-cacheable",
            Self::SetCookie => "set-cookie",
            Self::Useless => "useless",
        }
    }
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rules {
    /// What to keep of a response (RFC 9111, section 3). `sent` is when the request went out, `received` when the response's
    /// fields were there. That the body is complete is the caller's to see (section 3.3).
    ///
    /// Beyond the RFC: a shared cache keeps no `Set-Cookie` because of a status alone, and what could never be used is not
    /// kept.
    ///
    /// # Errors
    /// Why it must not be kept, or is not worth it.
    pub fn storable(
        &self,
        request: &request::Parts,
        response: &response::Parts,
        sent: Moment,
        received: Moment,
    ) -> Result<Stored, NotStored> {
        if request.method != Method::GET {
            return Err(NotStored::Method);
        }
        let stored = self.stored(
            &request.headers,
            response.status,
            without_hop(&response.headers),
            age(&response.headers),
            sent,
            received,
        );
        self.keeps(&stored, &request.headers).map(|()| stored)
    }

    /// Whether a response may be kept that is in the form of a stored one.
    pub(super) fn keeps(&self, stored: &Stored, request: &HeaderMap) -> Result<(), NotStored> {
        let Inner { status, headers, nominated, directives, .. } = &*stored.0;
        if status.is_informational() || matches!(status.as_u16(), 206 | 304 | 416) {
            return Err(NotStored::Status);
        }
        if RequestDirectives::of(request).no_store {
            return Err(NotStored::RequestNoStore);
        }
        if directives.must_understand {
            // Then `no-store` is for those who do not (section 5.2.2.3).
            if !is_understood(*status) {
                return Err(NotStored::NotUnderstood);
            }
        } else if directives.no_store {
            return Err(NotStored::NoStore);
        }
        if self.is_shared() && directives.private {
            return Err(NotStored::Private);
        }
        if nominated.is_any() {
            return Err(NotStored::Vary);
        }
        if self.is_shared() && request.contains_key(header::AUTHORIZATION) && !directives.for_all_users {
            return Err(NotStored::Authorization);
        }
        let is_meant = directives.public || self.is_explicit(headers, directives);
        // Private in a private cache: a permission (section 3).
        if !is_meant && !directives.private && !is_heuristically_cacheable(*status) {
            return Err(NotStored::NotCacheable);
        }
        if self.is_shared() && !is_meant && headers.contains_key(header::SET_COOKIE) {
            return Err(NotStored::SetCookie);
        }
        if !self.is_of_use(stored) {
            return Err(NotStored::Useless);
        }
        Ok(())
    }

    fn is_of_use(&self, stored: &Stored) -> bool {
        let Inner { directives, lifetime, age_on_arrival, .. } = &*stored.0;
        let may_be_stale = || {
            let stale = [directives.stale_while_revalidate, directives.stale_if_error];
            stale.into_iter().flatten().any(|seconds| seconds > 0) || !self.stale_if_error.is_zero()
        };
        stored.has_validator()
            || (lifetime > age_on_arrival && !directives.no_cache)
            || (!self.forbids_stale(directives) && may_be_stale())
    }

    /// `headers`: those of the response, without those of the connection.
    pub(super) fn stored(
        &self,
        request: &HeaderMap,
        status: StatusCode,
        mut headers: HeaderMap,
        age_value: Duration,
        sent: Moment,
        received: Moment,
    ) -> Stored {
        headers.remove(header::AGE);
        let date = dated(&mut headers, received);
        let targeted = if self.is_targeted { targeted(&headers) } else { None };
        let directives = targeted.unwrap_or_else(|| ResponseDirectives::of(&headers));
        // In whole seconds, as a date is: a response is not a second old because its date was rounded down.
        let apparent_age = received.system.duration_since(date).map_or(0, |age| age.as_secs());
        let corrected_age_value = age_value.saturating_add(received.since(sent));
        Stored(Arc::new(Inner {
            status,
            nominated: Nominated::of(request, &headers),
            principal: (!self.is_shared())
                .then(|| joined(request, &header::AUTHORIZATION))
                .flatten()
                .map(|principal| principal.into_owned().into()),
            date,
            lifetime: self
                .lifetime(status, &headers, &directives, date)
                .min(Duration::from_secs(MOST_SECONDS)),
            age_on_arrival: Duration::from_secs(apparent_age).max(corrected_age_value),
            received,
            directives,
            headers,
        }))
    }

    /// RFC 9111, section 4.2.1.
    fn lifetime(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
        date: SystemTime,
    ) -> Duration {
        if let Some(seconds) = self.shared_max_age(directives).or(directives.max_age) {
            return Duration::from_secs(seconds);
        }
        if !directives.is_targeted && headers.contains_key(header::EXPIRES) {
            // What is no date is in the past (section 5.3).
            let expires = date_of(headers, header::EXPIRES);
            return expires.and_then(|expires| expires.duration_since(date).ok()).unwrap_or_default();
        }
        if !directives.public && !is_heuristically_cacheable(status) {
            return Duration::ZERO;
        }
        let modified = date_of(headers, header::LAST_MODIFIED);
        let unchanged = modified.and_then(|modified| date.duration_since(modified).ok()).unwrap_or_default();
        unchanged.mul_f64(self.heuristic_fraction).min(self.heuristic_most)
    }

    fn shared_max_age(&self, directives: &ResponseDirectives) -> Option<u64> {
        directives.s_maxage.filter(|_| self.is_shared())
    }

    /// Whether it says for how long it is fresh.
    fn is_explicit(&self, headers: &HeaderMap, directives: &ResponseDirectives) -> bool {
        self.shared_max_age(directives).or(directives.max_age).is_some()
            || (!directives.is_targeted && headers.contains_key(header::EXPIRES))
    }
}

/// The `Date`, which is set where there is none that can be read (RFC 9110, section 6.6.1).
pub(super) fn dated(headers: &mut HeaderMap, received: Moment) -> SystemTime {
    if let Some(date) = date_of(headers, header::DATE) {
        return date;
    }
    if let Some(value) = date_value(received.system) {
        headers.insert(header::DATE, value);
    }
    received.system
}

/// RFC 9110, section 15.1, but for `206`, which is not stored.
const fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The final statuses of RFC 9110, section 15, but for the two that are not stored: what they ask of a cache is done here.
const fn is_understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200..=205 | 300..=303 | 305 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505
    )
}
