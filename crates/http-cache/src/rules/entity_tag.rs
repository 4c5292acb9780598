use http::{HeaderMap, header};

/// An entity tag (RFC 9110, section 8.8.3), as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntityTag<'a> {
    pub(super) text: &'a [u8],
    pub(super) is_weak: bool,
}

impl<'a> EntityTag<'a> {
    /// That of a response. What is not one, or several that differ, say nothing.
    pub(super) fn of(headers: &'a HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(header::ETAG).iter();
        let first = lines.next()?.as_bytes();
        if lines.any(|line| line.as_bytes() != first) {
            return None;
        }
        Self::parse(first)
    }

    pub(super) fn parse(text: &'a [u8]) -> Option<Self> {
        let text = super::field::trim(text);
        let (tag, length) = Self::first(text)?;
        (length == text.len()).then_some(tag)
    }

    /// The one that the bytes begin with, and its length.
    fn first(text: &'a [u8]) -> Option<(Self, usize)> {
        let is_weak = text.starts_with(b"W/");
        let start = if is_weak { 2 } else { 0 };
        if text.get(start) != Some(&b'"') {
            return None;
        }
        let inner = &text[start + 1..];
        let length = inner.iter().position(|byte| *byte == b'"')?;
        if inner[..length].iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return None;
        }
        let end = start + 1 + length + 1;
        Some((Self { text: &text[..end], is_weak }, end))
    }

    fn opaque(self) -> &'a [u8] {
        if self.is_weak { &self.text[2..] } else { self.text }
    }

    pub(super) fn matches_weakly(self, other: EntityTag<'_>) -> bool {
        self.opaque() == other.opaque()
    }

    pub(super) fn matches_strongly(self, other: EntityTag<'_>) -> bool {
        !self.is_weak && !other.is_weak && self.text == other.text
    }
}

/// What is in `If-None-Match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listed<'a> {
    Any,
    Tag(EntityTag<'a>),
}

/// The entity tags of all lines of `If-None-Match`. What is none is skipped up to the next comma.
pub(super) fn if_none_match(headers: &HeaderMap) -> impl Iterator<Item = Listed<'_>> {
    headers.get_all(header::IF_NONE_MATCH).into_iter().flat_map(|line| {
        let mut rest = line.as_bytes();
        std::iter::from_fn(move || {
            loop {
                while let [first, after @ ..] = rest
                    && (*first == b',' || super::field::is_space(*first))
                {
                    rest = after;
                }
                if rest.is_empty() {
                    return None;
                }
                if let Some((tag, length)) = EntityTag::first(rest) {
                    rest = &rest[length..];
                    return Some(Listed::Tag(tag));
                }
                let end = rest.iter().position(|byte| *byte == b',').unwrap_or(rest.len());
                let skipped = super::field::trim(&rest[..end]);
                rest = &rest[end..];
                if skipped == b"*" {
                    return Some(Listed::Any);
                }
            }
        })
    })
}
