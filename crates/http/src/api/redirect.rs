use buttress_core::Decision;
use http::{Extensions, HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use url::Url;

use super::{client::Shared, headers::remove_secrets};
use crate::{idempotency_key::IdempotencyKey, request_body::Body};

/// Where a call stands, and all that its next hop needs. The client's own headers are put in anew for each hop, so a
/// call that is not redirected pays for no copy of them.
pub(crate) struct Route {
    method: Method,
    uri: Uri,
    own: HeaderMap,
    extensions: Extensions,
    credentials: bool,
    /// None where it cannot be sent again.
    copy: Option<Body>,
    left: usize,
    /// Whether the body was left behind, and what told of it as well.
    emptied: bool,
}

impl Route {
    pub(crate) fn new(
        method: Method,
        uri: Uri,
        own: HeaderMap,
        extensions: Extensions,
        credentials: bool,
        copy: Option<Body>,
        left: usize,
    ) -> Self {
        Self { method, uri, own, extensions, credentials, copy, left, emptied: false }
    }

    /// The request for where it stands, and whether its answer is to be unpacked.
    pub(crate) fn request(&self, client: &Shared, body: Body) -> (Request<Body>, bool) {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers(client);
        *request.extensions_mut() = self.extensions.clone();
        let as_it_comes = self.own.contains_key(header::ACCEPT_ENCODING)
            || self.own.contains_key(header::RANGE)
            || self.method == Method::HEAD;
        (request, client.unpack && !as_it_comes)
    }

    fn headers(&self, client: &Shared) -> HeaderMap {
        let mut headers = client.headers.clone();
        if !self.credentials {
            remove_secrets(&mut headers);
        }
        if client.unpack && self.own.contains_key(header::RANGE) {
            // A part of what is packed cannot be unpacked.
            headers.remove(header::ACCEPT_ENCODING);
        }
        headers.reserve(self.own.len());
        for (name, value) in &self.own {
            headers.insert(name.clone(), value.clone());
        }
        if self.emptied {
            // The key, too: it says that this is the request it was given to.
            for name in [
                header::CONTENT_TYPE,
                header::CONTENT_ENCODING,
                header::CONTENT_LANGUAGE,
                header::CONTENT_LOCATION,
                IdempotencyKey::HEADER,
            ] {
                headers.remove(name);
            }
        }
        headers
    }

    /// Goes on to where an answer leads (RFC 9110, 15.4). None where it is no redirect, or not one to be followed: then
    /// nothing has changed.
    pub(crate) fn follow<B>(
        &mut self,
        client: &Shared,
        answer: &Response<B>,
    ) -> Option<(Request<Body>, bool)> {
        let to_get = match answer.status() {
            StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => self.method == Method::POST,
            StatusCode::SEE_OTHER => true,
            StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => false,
            _ => return None,
        };
        self.left.checked_sub(1)?;
        let (uri, same_origin) = resolve(&self.uri, answer.headers())?;
        let (body, copy) = if to_get {
            (Body::empty(), Some(Body::empty()))
        } else {
            let body = self.copy.take_if(|copy| copy.can_replay())?;
            let copy = body.try_clone();
            (body, copy)
        };
        if to_get {
            if self.method != Method::HEAD {
                self.method = Method::GET;
            }
            self.emptied = true;
        }
        if !same_origin {
            remove_secrets(&mut self.own);
            self.credentials = false;
        }
        // Where to is what the server sent.
        Decision::note(client.origin, "redirected", || {
            let to = if same_origin { "" } else { " of another origin, without credentials" };
            format!("{} to another URL{to}, {} more may follow", answer.status().as_u16(), self.left - 1)
        });
        (self.left, self.uri, self.copy) = (self.left - 1, uri, copy);
        Some(self.request(client, body))
    }

    pub(crate) fn into_uri(self) -> Uri {
        self.uri
    }
}

/// The URL of a `Location`, and whether it is of the same origin.
fn resolve(from: &Uri, headers: &HeaderMap) -> Option<(Uri, bool)> {
    let location = str::from_utf8(headers.get(header::LOCATION)?.as_bytes()).ok()?;
    let from = Url::parse(&from.to_string()).ok()?;
    let mut to = from.join(location).ok()?;
    let scheme_is_safe = to.scheme() == "https" || (to.scheme() == "http" && from.scheme() == "http");
    if !scheme_is_safe || !to.username().is_empty() || to.password().is_some() {
        return None;
    }
    to.set_fragment(None);
    Some((to.as_str().parse().ok()?, to.origin() == from.origin()))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn lead(from: &'static str, location: &[u8]) -> Option<(String, bool)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::LOCATION, HeaderValue::from_bytes(location).unwrap());
        resolve(&Uri::from_static(from), &headers).map(|(uri, same)| (uri.to_string(), same))
    }

    #[test]
    fn a_location_is_relative_to_where_the_call_stands() {
        const FROM: &str = "http://stock.internal/v1/items/7?lang=en";
        for (location, uri, same) in [
            ("8", "http://stock.internal/v1/items/8", true),
            ("/a?b#c", "http://stock.internal/a?b", true),
            ("//other/a", "http://other/a", false),
            ("http://stock.internal:80/", "http://stock.internal/", true),
            ("http://STOCK.internal/", "http://stock.internal/", true),
            ("http://stock.internal:81/", "http://stock.internal:81/", false),
            ("https://stock.internal/", "https://stock.internal/", false),
            ("http://stock.internal.evil/", "http://stock.internal.evil/", false),
            ("http:\\\\evil/", "http://evil/", false),
        ] {
            assert_eq!(lead(FROM, location.as_bytes()), Some((uri.to_owned(), same)), "{location}");
        }
    }

    #[test]
    fn where_a_secret_could_get_lost_nobody_goes() {
        assert_eq!(lead("https://stock/", b"http://stock/"), None);
        assert_eq!(lead("https://stock/", b"//stock/a").unwrap().0, "https://stock/a");
        let refused: [&[u8]; 6] =
            [b"file:///etc/passwd", b"ftp://a/", b"http://a@b/", b"http://:a@b/", b"http://", b"\xff"];
        for location in refused {
            assert_eq!(lead("http://stock/", location), None);
        }
        assert_eq!(resolve(&Uri::from_static("http://stock/"), &HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn no_location_panics_or_leads_from_https_to_anything_else(
            location in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..40),
                "(https?|HTTP|ftp)?:?[/\\\\]{0,3}[a-z@:.%\\[\\]#?é ]{0,20}".prop_map(String::into_bytes),
            ],
        ) {
            let Ok(location) = HeaderValue::from_bytes(&location) else { return Ok(()) };
            let headers = HeaderMap::from_iter([(header::LOCATION, location)]);
            if let Some((to, same)) = resolve(&Uri::from_static("https://stock/a/b"), &headers) {
                prop_assert_eq!(to.scheme_str(), Some("https"));
                prop_assert!(!to.authority().unwrap().as_str().contains('@'));
                prop_assert_eq!(same, to.host() == Some("stock") && to.port_u16().is_none_or(|port| port == 443));
            }
        }
    }
}
