use std::sync::OnceLock;

use http::{HeaderValue, Request, header::HOST, uri::Authority, uri::Scheme};

/// The `Host` of the first host that a client calls: most clients have one. hyper writes the header anew for each request
/// that has none: with three allocations, and the URL taken apart twice.
#[derive(Default)]
pub(crate) struct Host(OnceLock<(Authority, HeaderValue)>);

impl Host {
    /// Plain `http` is HTTP/1.1. With `https` it may be HTTP/2, which has no such header: it is left to hyper, as other
    /// hosts are.
    pub(crate) fn add_to<B>(&self, request: &mut Request<B>) {
        let uri = request.uri();
        if uri.scheme() != Some(&Scheme::HTTP) {
            return;
        }
        let Some(authority) = uri.authority() else { return };
        match self.0.get() {
            // As the URL writes it.
            Some((known, value)) if known.as_str() == authority.as_str() => {
                request.headers_mut().entry(HOST).or_insert_with(|| value.clone());
            }
            Some(_) => {}
            None => self.remember(authority),
        }
    }

    #[cold]
    fn remember(&self, authority: &Authority) {
        // Credentials are not kept.
        if authority.as_str().contains('@') {
            return;
        }
        let host = match authority.port() {
            Some(port) if port.as_u16() != 80 => format!("{}:{port}", authority.host()),
            _ => authority.host().to_owned(),
        };
        if let Ok(value) = HeaderValue::try_from(host) {
            _ = self.0.set((authority.clone(), value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the second request to a URL has.
    fn added(url: &str, own: Option<&'static str>) -> Option<String> {
        let host = Host::default();
        let mut request = Request::get(url).body(()).unwrap();
        host.add_to(&mut request);
        assert!(request.headers().is_empty(), "the first is hyper's");
        if let Some(own) = own {
            request.headers_mut().insert(HOST, HeaderValue::from_static(own));
        }
        host.add_to(&mut request);
        let mut other = Request::get("http://other.example/").body(()).unwrap();
        host.add_to(&mut other);
        assert!(other.headers().is_empty());
        request.headers().get(HOST).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn it_is_what_hyper_would_write() {
        for (url, expected) in [
            ("http://stock.internal/a?b", "stock.internal"),
            ("http://STOCK.internal:8080", "STOCK.internal:8080"),
            ("http://stock.internal:80/", "stock.internal"),
            ("http://stock.internal:443/", "stock.internal:443"),
            ("http://stock.internal:/", "stock.internal"),
            ("http://[::1]:8080/", "[::1]:8080"),
            ("http://[::1]/", "[::1]"),
        ] {
            assert_eq!(added(url, None).as_deref(), Some(expected), "{url}");
        }
        assert_eq!(added("http://stock.internal/", Some("own")).as_deref(), Some("own"));
    }

    #[test]
    fn what_may_be_http2_or_is_secret_is_not_touched() {
        for url in ["https://stock.internal/", "http://user:secret@stock.internal/", "/a"] {
            assert_eq!(added(url, None), None, "{url}");
        }
    }
}
