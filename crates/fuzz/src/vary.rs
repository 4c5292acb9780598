use std::time::{Duration, SystemTime};

use buttress_http_cache::rules::{Moment, NotStored, Rules};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header, request, response};

use crate::{cost::bounded, head::Head};

/// `Vary`: which requests a stored answer answers is what a naive model says, the same in both directions, and what depends on
/// more than a request shows is never stored.
///
/// The input: the fields of a request, of its answer, and of another request, with an empty line between them.
///
/// # Panics
/// Where that does not hold.
pub fn vary(data: &[u8]) {
    let [asked, answered, other] = Head::read(data);
    let (asked, other) = (request_of(&asked), request_of(&other));
    let response = response_of(&answered);
    let now = Moment { system: SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000), ..Moment::now() };
    let rules = Rules::shared();
    let store = |request| rules.storable(request, &response, now, now);
    let stored = bounded(data, 32 << 10, 64, || store(&asked));
    let named = named(&response.headers);
    match (stored, named) {
        (Err(NotStored::Vary), named) => assert_eq!(named, None, "{response:?}"),
        (Ok(_), None) => panic!("it depends on what nobody can see: {response:?}"),
        (Ok(stored), Some(named)) => {
            assert!(rules.matches(&stored, &asked), "{asked:?} {response:?}");
            let matches = rules.matches(&stored, &other);
            if let Some(expected) = are_same(&named, &asked.headers, &other.headers) {
                assert_eq!(matches, expected, "{named:?} {asked:?} {other:?}");
            }
            if let Ok(back) = store(&other) {
                assert_eq!(rules.matches(&back, &asked), matches, "{named:?} {asked:?} {other:?}");
            }
        }
        // Nothing else in the answer forbids it.
        (Err(error), _) => {
            assert!(matches!(error, NotStored::RequestNoStore), "{error}: {asked:?} {response:?}")
        }
    }
}

fn request_of(head: &Head) -> request::Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers = head.fields.clone();
    parts
}

/// With all of its fields, and may be stored whatever they are.
fn response_of(head: &Head) -> response::Parts {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = StatusCode::OK;
    for value in head.fields.get_all(header::VARY) {
        parts.headers.append(header::VARY, value.clone());
    }
    parts.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=60"));
    parts
}

/// The names of the fields. Nothing, where one is no name, or all.
fn named(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut names = Vec::new();
    for line in response.get_all(header::VARY) {
        for name in line.as_bytes().split(|byte| *byte == b',') {
            let name: Vec<u8> = trimmed(name);
            if !name.is_empty() {
                names.push(if name == b"*" { None } else { HeaderName::from_bytes(&name).ok() });
            }
        }
    }
    names.into_iter().collect()
}

fn trimmed(text: &[u8]) -> Vec<u8> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = text.iter().take_while(|byte| is_space(byte)).count();
    let end = text.iter().rev().take_while(|byte| is_space(byte)).count();
    if start == text.len() { Vec::new() } else { text[start..text.len() - end].to_vec() }
}

/// Nothing, where there are quotes in a list: the naive model does not know.
fn are_same(names: &[HeaderName], one: &HeaderMap, other: &HeaderMap) -> Option<bool> {
    let mut same = true;
    for name in names {
        let (one, other) = (value(one, name), value(other, name));
        same &= match () {
            () if one == other => true,
            () if !name.as_str().starts_with("accept") => false,
            () if [&one, &other].into_iter().flatten().any(|value| value.contains(&b'"')) => return None,
            () => list(name, one) == list(name, other),
        };
    }
    Some(same)
}

fn value(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let lines: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    (!lines.is_empty()).then(|| lines.join(&b", "[..]))
}

/// Space around the commas of such a list, and its empty elements, mean nothing; nor the case, but for `Accept`.
fn list(name: &HeaderName, value: Option<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let is_list = [header::ACCEPT, header::ACCEPT_LANGUAGE, header::ACCEPT_ENCODING, header::ACCEPT_CHARSET];
    let value = value?;
    if !is_list.contains(name) {
        return Some(vec![value]);
    }
    let elements = value.split(|byte| *byte == b',').map(trimmed).filter(|element| !element.is_empty());
    let as_compared = |element: Vec<u8>| {
        if *name == header::ACCEPT { element } else { element.to_ascii_lowercase() }
    };
    Some(elements.map(as_compared).collect())
}
