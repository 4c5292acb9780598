//! Which requests a stored response answers (RFC 9111, section 4.1).

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, header};

use super::field::{elements, joined, trim};

/// The request's fields that a response depends on, as the request had them.
pub(super) struct Nominated {
    fields: Box<[Field]>,
    /// It depends on more: `Vary: *`, or a field that nobody can name.
    is_any: bool,
}

struct Field {
    name: HeaderName,
    /// None: the request had none.
    value: Option<Box<[u8]>>,
}

impl Nominated {
    pub(super) fn of(request: &HeaderMap, response: &HeaderMap) -> Self {
        let mut is_any = false;
        let mut names: Vec<HeaderName> = elements(response, header::VARY)
            .filter_map(|name| {
                let known = (name != b"*").then(|| HeaderName::from_bytes(name).ok()).flatten();
                is_any |= known.is_none();
                known
            })
            .collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        names.dedup();
        let as_asked = |name: HeaderName| {
            let value = normalised(request, &name).map(|value| value.into_owned().into());
            Field { name, value }
        };
        Self { fields: names.into_iter().map(as_asked).collect(), is_any }
    }

    pub(super) const fn is_any(&self) -> bool {
        self.is_any
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn matches(&self, request: &HeaderMap) -> bool {
        let is_same = |field: &Field| normalised(request, &field.name).as_deref() == field.value.as_deref();
        !self.is_any && self.fields.iter().all(is_same)
    }

    /// In bytes.
    pub(super) fn len(&self) -> usize {
        let of_field = |field: &Field| {
            size_of::<Field>()
                + field.name.as_str().len()
                + field.value.as_ref().map_or(0, |value| value.len())
        };
        self.fields.iter().map(of_field).sum()
    }
}

/// A field's value as it is compared: of these lists neither the space around commas means anything nor, but for `Accept`,
/// the case. None: the field is not there.
fn normalised<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let value = joined(headers, name)?;
    let any_case = [header::ACCEPT_LANGUAGE, header::ACCEPT_ENCODING, header::ACCEPT_CHARSET].contains(name);
    if !any_case && *name != header::ACCEPT {
        return Some(value);
    }
    let mut normal = Vec::with_capacity(value.len());
    for element in unquoted_elements(&value).map(trim).filter(|element| !element.is_empty()) {
        if !normal.is_empty() {
            normal.push(b',');
        }
        normal.extend_from_slice(element);
    }
    if any_case {
        normal.make_ascii_lowercase();
    }
    Some(Cow::Owned(normal))
}

/// Split at the commas, but not at those within quotes.
fn unquoted_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let mut escaped = false;
    value.split(move |byte| {
        if quoted {
            quoted = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            return false;
        }
        quoted = *byte == b'"';
        *byte == b','
    })
}
