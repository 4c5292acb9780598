use std::{fmt, sync::Arc};

use http::{HeaderMap, HeaderValue, Uri, header::HOST, uri::Authority};

/// Under which address a response is kept: the effective URI of its request, scheme and host in lower case, without the
/// scheme's own port.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key(Arc<str>);

impl Key {
    /// None where it cannot be known whom the request is for: a target and a `Host` that differ, for example.
    ///
    /// What a server gets has a path alone: then the `Host` field says the rest, but for the scheme. A user and a password in
    /// the address say who asks, which no cache should guess at.
    pub(crate) fn of(uri: &Uri, headers: &HeaderMap, scheme: &str) -> Option<Self> {
        let scheme = uri.scheme_str().unwrap_or(scheme);
        let mut hosts = headers.get_all(HOST).iter();
        let (host, more) = (hosts.next(), hosts.next());
        if more.is_some() {
            return None;
        }
        let by_field = |host: &HeaderValue| {
            let host = host.to_str().ok().filter(|host| host.parse::<Authority>().is_ok())?;
            Self::made(scheme, host, uri)
        };
        let Some(authority) = uri.authority() else { return by_field(host?) };
        let key = Self::made(scheme, authority.as_str(), uri)?;
        // Whoever answers may look at either. If they differ, one host could have another's response stored.
        (host.is_none_or(|host| by_field(host).as_ref() == Some(&key))).then_some(key)
    }

    /// The key of a `GET` of this absolute address.
    pub(crate) fn of_uri(uri: &Uri) -> Option<Self> {
        Self::of(uri, &HeaderMap::new(), "http")
    }

    fn made(scheme: &str, host: &str, uri: &Uri) -> Option<Self> {
        if host.contains('@') {
            return None;
        }
        let own_port = match scheme {
            _ if scheme.eq_ignore_ascii_case("http") => ":80",
            _ if scheme.eq_ignore_ascii_case("https") => ":443",
            _ => ":",
        };
        let host = host.strip_suffix(own_port).or_else(|| host.strip_suffix(':')).unwrap_or(host);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut text = String::with_capacity(scheme.len() + 3 + host.len() + 1 + path.len());
        text.push_str(scheme);
        text.push_str("://");
        text.push_str(host);
        text.make_ascii_lowercase();
        if !path.starts_with('/') {
            text.push('/');
        }
        text.push_str(path);
        Some(Self(text.into()))
    }

    /// As a URI, to resolve the addresses in a response against.
    pub(crate) fn uri(&self) -> Option<Uri> {
        self.0.parse().ok()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Key {
    /// A query may hold a token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.split('?').next().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str, host: Option<&str>) -> Option<String> {
        let mut headers = HeaderMap::new();
        if let Some(host) = host {
            headers.insert(HOST, host.parse().unwrap());
        }
        Key::of(&uri.parse().unwrap(), &headers, "http").map(|key| key.0.to_string())
    }

    #[test]
    fn scheme_and_host_have_no_case_and_the_path_has() {
        assert_eq!(key("HTTP://Example.COM/A?B=C", None).unwrap(), "http://example.com/A?B=C");
        assert_eq!(key("http://example.com", None).unwrap(), "http://example.com/");
        assert_eq!(key("http://example.com?q", None).unwrap(), "http://example.com/?q");
    }

    #[test]
    fn the_scheme_s_own_port_says_nothing() {
        assert_eq!(key("https://a:443/", None).unwrap(), "https://a/");
        assert_eq!(key("http://a:443/", None).unwrap(), "http://a:443/");
        assert_eq!(key("http://user:80@a:80/", None), None);
        assert_eq!(key("http://[::1]:80/", None).unwrap(), "http://[::1]/");
    }

    #[test]
    fn a_server_s_request_takes_its_host_from_the_field() {
        assert_eq!(key("/x", Some("Example.com:80")).unwrap(), "http://example.com/x");
        assert_eq!(key("http://a/x", Some("A:80")).unwrap(), "http://a/x");
        assert_eq!(key("http://a/x", Some("b")), None, "which of them is it for?");
        assert_eq!(key("/x", None), None);
        assert_eq!(key("/x", Some("a/b")), None);
        assert_eq!(key("/x", Some("a@b")), None);
        let mut twice = HeaderMap::new();
        twice.append(HOST, "a".parse().unwrap());
        twice.append(HOST, "b".parse().unwrap());
        assert!(Key::of(&"/x".parse().unwrap(), &twice, "http").is_none());
    }

    #[test]
    fn debug_shows_no_query() {
        let key = Key::of_uri(&"http://a/x?token=1".parse().unwrap()).unwrap();
        assert_eq!(format!("{key:?}"), "http://a/x");
    }
}
