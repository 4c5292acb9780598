use http::{StatusCode, header, request, response};

use super::{
    Moment, NotStored, Rules, Stored, entity_tag::EntityTag, field::date_of, stored::content_length,
};

/// What the answer to a `HEAD` makes of a stored response ([`Rules::after_head`]).
#[derive(Debug, Clone)]
pub enum HeadUpdate {
    /// It still holds; keep this in place of the old one.
    Freshened(Stored),
    /// The origin has another one now, or does not want this one kept: drop it.
    Outdated,
    /// Nothing is said of this stored response, which stays as it was.
    Unrelated,
}

impl Rules {
    /// What a `200` to a `HEAD` says of a stored response to `GET` (RFC 9111, section 4.3.5): with the same entity tag,
    /// `Last-Modified` and `Content-Length`, as far as it has them, the stored one is freshened; with another, it is
    /// outdated. One without any validator proves nothing: it freshens nothing.
    #[must_use]
    pub fn after_head(
        &self,
        stored: &Stored,
        request: &request::Parts,
        response: &response::Parts,
        sent: Moment,
        received: Moment,
    ) -> HeadUpdate {
        if response.status != StatusCode::OK || !self.matches(stored, request) {
            return HeadUpdate::Unrelated;
        }
        let told = &response.headers;
        let has_tag = told.contains_key(header::ETAG);
        let has_date = told.contains_key(header::LAST_MODIFIED);
        let is_same_tag = || EntityTag::of(told).is_some_and(|tag| stored.tag() == Some(tag));
        let is_same_date = || {
            let date = date_of(told, header::LAST_MODIFIED);
            date.is_some() && date == stored.last_modified()
        };
        let is_same_length = || {
            // A body of which no length was told is as long as it is.
            let (Some(told), Some(own)) = (content_length(told), stored.content_length()) else {
                return true;
            };
            told == own
        };
        if stored.status() != StatusCode::OK
            || has_tag && !is_same_tag()
            || has_date && !is_same_date()
            || !is_same_length()
        {
            return HeadUpdate::Outdated;
        }
        if !has_tag && !has_date {
            return HeadUpdate::Unrelated;
        }
        let new = self.updated(stored, &request.headers, told, sent, received);
        match self.keeps(&new, &request.headers) {
            Ok(()) => HeadUpdate::Freshened(new),
            // That is about this request alone.
            Err(NotStored::RequestNoStore | NotStored::Authorization) => HeadUpdate::Unrelated,
            Err(_) => HeadUpdate::Outdated,
        }
    }
}
