use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request};

use super::{
    Moment, Rules,
    directives::ResponseDirectives,
    entity_tag::{EntityTag, Listed, if_none_match},
    field::{MOST_SECONDS, date_of, joined, seconds, trim},
    vary::Nominated,
};

/// What is kept of a response beside its body: status, fields, age, and which requests it answers. Its clones share it.
#[derive(Clone)]
pub struct Stored(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub(super) status: StatusCode,
    /// Without those of the connection and without `Age`; with a `Date`.
    pub(super) headers: HeaderMap,
    pub(super) nominated: Nominated,
    /// Whom it was answered to: his `Authorization`. Not kept in a shared cache.
    pub(super) principal: Option<Box<[u8]>>,
    pub(super) directives: ResponseDirectives,
    /// When the origin made it.
    pub(super) date: SystemTime,
    /// For how long it is fresh, counted from its origin.
    pub(super) lifetime: Duration,
    /// `corrected_initial_age` in RFC 9111, section 4.2.3.
    pub(super) age_on_arrival: Duration,
    pub(super) received: Moment,
}

impl Rules {
    /// Whether this response answers such a request, as far as `Vary` goes (RFC 9111, section 4.1). A private cache also asks
    /// for the same `Authorization`, or none in both: its one client may act for several users.
    ///
    /// The address is the caller's to compare; the time is [`judge`](Self::judge)'s.
    #[must_use]
    pub fn matches(&self, stored: &Stored, request: &request::Parts) -> bool {
        stored.0.nominated.matches(&request.headers)
            && (self.is_shared()
                || joined(&request.headers, &header::AUTHORIZATION).as_deref()
                    == stored.0.principal.as_deref())
    }
}

impl Stored {
    /// The response's status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// The response's fields as they are kept: without those of one connection (RFC 9111, section 3.1) and without `Age`.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// How long ago the origin made it, or said that it still holds: `current_age` in RFC 9111, section 4.2.3. At most 2^31
    /// seconds.
    #[must_use]
    pub fn age(&self, now: Moment) -> Duration {
        let age = self.0.age_on_arrival.saturating_add(now.since(self.0.received));
        age.min(Duration::from_secs(MOST_SECONDS))
    }

    /// For how many more seconds it is fresh, rounded up: above 0 as long as it is, below 0 since it has been stale for a
    /// second. Whether it may be served is also a matter of the request: [`Rules::judge`].
    #[must_use]
    pub fn ttl(&self, now: Moment) -> i64 {
        // Both are 2^31 seconds at most.
        let (lifetime, age) = (self.0.lifetime, self.age(now));
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        match lifetime.checked_sub(age) {
            Some(left) => seconds(left) + i64::from(left.subsec_nanos() > 0),
            None => -seconds(age.saturating_sub(lifetime)),
        }
    }

    pub(super) fn is_fresh(&self, now: Moment) -> bool {
        self.0.lifetime > self.age(now)
    }

    /// For how long it has been stale.
    pub(super) fn staleness(&self, now: Moment) -> Duration {
        self.age(now).saturating_sub(self.0.lifetime)
    }

    /// The fields of an answer from the store: those that are kept, and `Age` (RFC 9111, section 5.1).
    #[must_use]
    pub fn answer_headers(&self, now: Moment) -> HeaderMap {
        let mut headers = self.0.headers.clone();
        headers.insert(header::AGE, self.age_value(now));
        headers
    }

    /// The fields of a `304` from the store (RFC 9110, section 15.4.5): what tells the client's copy how long it holds, and
    /// `Last-Modified` where there is no entity tag to know it by.
    #[must_use]
    pub fn not_modified_headers(&self, now: Moment) -> HeaderMap {
        let mut told = vec![
            header::CACHE_CONTROL,
            header::CONTENT_LOCATION,
            header::DATE,
            header::ETAG,
            header::EXPIRES,
            header::VARY,
        ];
        if !self.0.headers.contains_key(header::ETAG) {
            told.push(header::LAST_MODIFIED);
        }
        let mut headers = HeaderMap::new();
        for name in told {
            for value in self.0.headers.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        headers.insert(header::AGE, self.age_value(now));
        headers
    }

    fn age_value(&self, now: Moment) -> HeaderValue {
        HeaderValue::from(self.age(now).as_secs())
    }

    /// Whether the client has this response already: a `304` is the answer, if this response may be served (RFC 9111,
    /// section 4.3.2).
    ///
    /// `If-None-Match` compares weakly, and where it stands `If-Modified-Since` is not looked at. Both count for `GET` and
    /// `HEAD` alone, and for responses that succeeded (RFC 9110, section 13.2.1).
    #[must_use]
    pub fn is_not_modified_for(&self, request: &request::Parts) -> bool {
        if !(request.method == Method::GET || request.method == Method::HEAD) || !self.0.status.is_success() {
            return false;
        }
        if request.headers.contains_key(header::IF_NONE_MATCH) {
            let own = self.tag();
            return if_none_match(&request.headers).any(|listed| match listed {
                Listed::Any => true,
                Listed::Tag(tag) => own.is_some_and(|own| own.matches_weakly(tag)),
            });
        }
        let Some(since) = date_of(&request.headers, header::IF_MODIFIED_SINCE) else {
            return false;
        };
        if self.0.headers.contains_key(header::LAST_MODIFIED) {
            self.last_modified().is_some_and(|modified| modified <= since)
        } else {
            self.0.date <= since
        }
    }

    /// How much memory it takes beside its body, in bytes, about.
    #[must_use]
    pub fn weight(&self) -> usize {
        let fields =
            self.0.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + OF_A_FIELD);
        size_of::<Inner>()
            + fields.sum::<usize>()
            + self.0.nominated.len()
            + self.0.principal.as_ref().map_or(0, |principal| principal.len())
    }

    /// The length of its body, if it says so and does not contradict itself.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        content_length(&self.0.headers)
    }

    /// Whether, of two that match, this is the one to be used (RFC 9111, sections 4 and 4.1): one that says what it depends
    /// on goes before one that does not; else the later `Date`; with the same, the one that came later.
    #[must_use]
    pub fn is_newer_than(&self, other: &Self) -> bool {
        let order = |stored: &Inner| (!stored.nominated.is_empty(), stored.date, stored.received.instant);
        order(&self.0) > order(&other.0)
    }

    /// Whether this one arrived after the other.
    #[must_use]
    pub fn came_after(&self, other: &Self) -> bool {
        self.0.received.instant > other.0.received.instant
    }

    /// Whether it can be asked for by a condition: it has an entity tag, or the time when it was last modified.
    #[must_use]
    pub fn has_validator(&self) -> bool {
        self.tag().is_some() || self.last_modified().is_some()
    }

    pub(super) fn tag(&self) -> Option<EntityTag<'_>> {
        EntityTag::of(&self.0.headers)
    }

    pub(super) fn last_modified(&self) -> Option<SystemTime> {
        date_of(&self.0.headers, header::LAST_MODIFIED)
    }
}

/// What a header map keeps for each line beside its bytes, about.
const OF_A_FIELD: usize = 104;

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut lines = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = trim(lines.next()?.as_bytes());
    if seconds(first).is_none() || lines.any(|line| trim(line.as_bytes()) != first) {
        return None;
    }
    std::str::from_utf8(first).ok()?.parse().ok()
}

impl fmt::Debug for Stored {
    /// Without fields: they may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("status", &self.0.status)
            .field("lifetime", &self.0.lifetime)
            .field("age_on_arrival", &self.0.age_on_arrival)
            .finish_non_exhaustive()
    }
}
