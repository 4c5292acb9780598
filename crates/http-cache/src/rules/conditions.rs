use http::{HeaderMap, HeaderValue, header};

use super::{
    Stored,
    entity_tag::{EntityTag, Listed, if_none_match},
};

/// How many tags of stored responses are sent along, at most.
const MOST_TAGS: usize = 32;
/// How many bytes of them.
const MOST_BYTES: usize = 4_096;

/// The conditions by which stored responses are validated (RFC 9111, section 4.3.1): a `304` tells that one of them still
/// holds.
#[derive(Debug, Clone, Default)]
pub struct Conditions {
    tags: Vec<HeaderValue>,
    modified: Option<HeaderValue>,
}

impl Conditions {
    /// Those by which the selected response, and others of its address that [match](super::Rules::matches) the request,
    /// are known: their entity tags, the selected one's first, up to 32 of them; and when the selected one was last
    /// modified. Where it has nothing but that, it goes alone: beside a tag, no date is looked at (RFC 9110, section
    /// 13.1.3).
    #[must_use]
    pub fn of<'a>(selected: Option<&'a Stored>, others: impl IntoIterator<Item = &'a Stored>) -> Self {
        let modified = selected
            .filter(|selected| selected.last_modified().is_some())
            .and_then(|selected| selected.headers().get(header::LAST_MODIFIED).cloned());
        let mut tags: Vec<HeaderValue> = Vec::new();
        if modified.is_some() && selected.is_some_and(|selected| selected.tag().is_none()) {
            return Self { tags, modified };
        }
        let mut bytes = 0;
        for tag in selected.into_iter().chain(others).filter_map(Stored::tag) {
            if tags.len() == MOST_TAGS {
                break;
            }
            let Ok(value) = HeaderValue::from_bytes(tag.text) else { continue };
            if bytes + value.len() <= MOST_BYTES && !tags.contains(&value) {
                bytes += value.len();
                tags.push(value);
            }
        }
        Self { tags, modified }
    }

    /// Whether there is none: nothing can be validated.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty() && self.modified.is_none()
    }

    /// The tag that a `304` is about though it does not repeat it, as it has to (RFC 9110, section 15.4.5): the only one that
    /// was sent, where neither a date of the client's nor one that the `304` has tells of something else.
    #[must_use]
    pub fn only_tag(&self, client: &HeaderMap, told: &HeaderMap) -> Option<HeaderValue> {
        let [tag] = &self.tags[..] else { return None };
        let is_by_date = self.modified.is_none() && client.contains_key(header::IF_MODIFIED_SINCE);
        let is_other = told.contains_key(header::ETAG)
            || told.get(header::LAST_MODIFIED).is_some_and(|told| self.modified.as_ref() != Some(told));
        let is_ours = |listed| matches!(listed, Listed::Tag(own) if own.text == tag.as_bytes());
        (!is_by_date && !is_other && if_none_match(client).all(is_ours)).then(|| tag.clone())
    }

    /// Whether a `304` is about a response that the client itself has, by the tags that it sent: then it is for the client.
    #[must_use]
    pub fn is_for_the_client(client: &HeaderMap, told: &HeaderMap) -> bool {
        EntityTag::of(told).is_some_and(|told| {
            if_none_match(client).any(|listed| match listed {
                Listed::Any => true,
                Listed::Tag(own) => own.matches_weakly(told),
            })
        })
    }

    /// Adds them to the client's own tags in `If-None-Match`, and puts the selected response's date into
    /// `If-Modified-Since`. A client's `*` stays alone, as it has to.
    pub fn add_to(&self, request: &mut HeaderMap) {
        if let Some(modified) = &self.modified {
            request.insert(header::IF_MODIFIED_SINCE, modified.clone());
        }
        if self.tags.is_empty() {
            return;
        }
        let mut all: Vec<u8> = Vec::new();
        for listed in if_none_match(request) {
            match listed {
                Listed::Any => return,
                Listed::Tag(tag) => add(&mut all, tag.text),
            }
        }
        for tag in &self.tags {
            let is_there = |listed| matches!(listed, Listed::Tag(own) if own.text == tag.as_bytes());
            if !if_none_match(request).any(is_there) {
                add(&mut all, tag.as_bytes());
            }
        }
        // It is made of parts of header values.
        if let Ok(value) = HeaderValue::from_bytes(&all) {
            request.insert(header::IF_NONE_MATCH, value);
        }
    }
}

fn add(list: &mut Vec<u8>, tag: &[u8]) {
    if !list.is_empty() {
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(tag);
}
