use http::{HeaderMap, HeaderName, header, request, response};

use super::{
    Moment, Rules, Stored,
    entity_tag::EntityTag,
    field::{age, date_of, without_hop},
    storable::dated,
};

/// What a `304` makes of a stored response ([`Rules::freshen`]).
#[derive(Debug, Clone)]
pub enum Freshened {
    /// Answer with this, and keep it in place of the old one.
    Kept(Stored),
    /// Answer this one request with this, and drop the old one: the `304` says that it is not to be kept any more.
    Once(Stored),
    /// The `304` is not about this stored response, which stays as it was.
    Unrelated,
}

impl Rules {
    /// What becomes of a stored response by a `304` (RFC 9111, sections 3.2, 4.3.3 and 4.3.4): it gets the fields of the
    /// `304`, and its age and lifetime are counted anew.
    ///
    /// The `304` is not about a response that does not [match](Self::matches) the request, though it has the same tag: not
    /// every origin's tags are as unique as they have to be, and it may be another user's. Else the validators tell:
    /// - An entity tag there: it is the same, and of a strong one the strong comparison counts.
    /// - No tag there, and one here: it is not. A `304` has the tag that its response would have (RFC 9110, section 15.4.5).
    /// - No tag in either: `Last-Modified` is the same. Without it, the `304` is about the response that
    ///   [`Conditions`](super::Conditions) asked for by its date; or, where nothing here has a date, the client's own
    ///   `If-Modified-Since` is no later than this response.
    #[must_use]
    pub fn freshen(
        &self,
        stored: &Stored,
        request: &request::Parts,
        not_modified: &response::Parts,
        sent: Moment,
        received: Moment,
    ) -> Freshened {
        if !self.is_about(stored, request, &not_modified.headers) {
            return Freshened::Unrelated;
        }
        let new = self.updated(stored, &request.headers, &not_modified.headers, sent, received);
        match self.keeps(&new, &request.headers) {
            Ok(()) => Freshened::Kept(new),
            Err(_) => Freshened::Once(new),
        }
    }

    fn is_about(&self, stored: &Stored, request: &request::Parts, told: &HeaderMap) -> bool {
        if !self.matches(stored, request) {
            return false;
        }
        if told.contains_key(header::ETAG) {
            let (Some(told), Some(own)) = (EntityTag::of(told), stored.tag()) else {
                return false;
            };
            return if told.is_weak { told.matches_weakly(own) } else { told.matches_strongly(own) };
        }
        if stored.0.headers.contains_key(header::ETAG) {
            return false;
        }
        let own = stored.last_modified();
        if told.contains_key(header::LAST_MODIFIED) {
            return own.is_some() && date_of(told, header::LAST_MODIFIED) == own;
        }
        // With a tag, the origin did not look at any date.
        if request.headers.contains_key(header::IF_NONE_MATCH) {
            return false;
        }
        own.is_some()
            || date_of(&request.headers, header::IF_MODIFIED_SINCE)
                .is_some_and(|since| since <= stored.0.date)
    }

    /// RFC 9111, section 3.2.
    pub(super) fn updated(
        &self,
        stored: &Stored,
        request: &HeaderMap,
        told: &HeaderMap,
        sent: Moment,
        received: Moment,
    ) -> Stored {
        let mut new = without_hop(told);
        // The old one is of an earlier answer.
        dated(&mut new, received);
        let mut headers = stored.0.headers.clone();
        // A cookie in a `304` is for the one who asked. A shared cache would give it to all.
        let is_for_one = |name: &HeaderName| self.is_shared() && *name == header::SET_COOKIE;
        for name in new.keys().filter(|name| !OF_THE_BODY.contains(name) && !is_for_one(name)) {
            headers.remove(name);
            for value in new.get_all(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        self.stored(request, stored.0.status, headers, age(told), sent, received)
    }
}

/// What is about the stored body, which stays the same.
const OF_THE_BODY: [HeaderName; 4] =
    [header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::CONTENT_TYPE, header::CONTENT_RANGE];
