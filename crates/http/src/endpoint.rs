use std::{
    error::Error as StdError,
    fmt,
    task::{Context, Poll},
};

use http::{
    Request, Uri,
    uri::{Authority, PathAndQuery, Scheme},
};
use tower_service::Service;

use crate::peer::Peer;

/// One server among several: a service that sends every request to its own scheme, host and port, whatever the request's
/// URL says. A load balancer over endpoints can so send one request to any of them.
///
/// Path and query stay the request's; a URL without scheme and host is enough. A `Host` header that the request has stays,
/// too; where it has none, `Host` is the endpoint's, and so are in any case the `:authority` of HTTP/2 and the name that
/// TLS checks. (To reach addresses behind one name, give each a client with
/// [`connect_to`](crate::Builder::connect_to).)
///
/// Clones are cheap. All else is the service's own: its readiness, answers, errors and futures.
#[derive(Debug, Clone)]
pub struct HttpEndpoint<S> {
    service: S,
    scheme: Scheme,
    authority: Authority,
}

impl<S> HttpEndpoint<S> {
    /// The endpoint at that URL: `http` or `https`, host and perhaps port, and nothing else.
    ///
    /// # Errors
    /// If the URL is malformed, or has another scheme, no host, userinfo, a path or a query.
    pub fn try_new(service: S, url: &str) -> Result<Self, InvalidEndpoint> {
        let parts = url.parse::<Uri>().map_err(|_| InvalidEndpoint("it is malformed"))?.into_parts();
        let scheme = parts.scheme.filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
        let scheme = scheme.ok_or(InvalidEndpoint("its scheme must be http or https"))?;
        let authority = parts.authority.ok_or(InvalidEndpoint("it names no host"))?;
        if authority.host().is_empty() {
            return Err(InvalidEndpoint("it names no host"));
        }
        if authority.as_str().contains('@') {
            return Err(InvalidEndpoint("userinfo would be sent to nobody: leave it out"));
        }
        if authority.as_str().len() > authority.host().len() && authority.port_u16().is_none() {
            return Err(InvalidEndpoint("its port is no port"));
        }
        if parts.path_and_query.is_some_and(|path| path != "/") {
            return Err(InvalidEndpoint("a path or a query would be lost: the requests bring their own"));
        }
        Ok(Self { service, scheme, authority })
    }

    /// Its host and port.
    #[must_use]
    pub fn peer(&self) -> Peer {
        Peer::at(self.authority.clone())
    }

    /// The service inside.
    pub const fn get_ref(&self) -> &S {
        &self.service
    }

    /// The service inside.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.service
    }

    /// The service inside.
    pub fn into_inner(self) -> S {
        self.service
    }

    fn aim(&self, uri: &mut Uri) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
        *uri = Uri::from_parts(parts).expect("a scheme, an authority and a path make a URL");
    }
}

impl<S, B> Service<Request<B>> for HttpEndpoint<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        self.aim(request.uri_mut());
        self.service.call(request)
    }
}

/// Why a URL is no [`HttpEndpoint`]'s. It does not show the URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidEndpoint(&'static str);

impl fmt::Display for InvalidEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no endpoint by that URL: {}", self.0)
    }
}

impl StdError for InvalidEndpoint {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn aimed(endpoint: &str, url: &str) -> String {
        let mut uri = url.parse().unwrap();
        HttpEndpoint::try_new((), endpoint).unwrap().aim(&mut uri);
        uri.to_string()
    }

    #[test]
    fn path_and_query_stay_and_the_rest_is_the_endpoints() {
        let at = "http://10.0.0.7:8080";
        assert_eq!(aimed(at, "https://stock.internal/items/7?full=1"), "http://10.0.0.7:8080/items/7?full=1");
        assert_eq!(aimed(at, "/items/7"), "http://10.0.0.7:8080/items/7");
        assert_eq!(aimed(at, "https://stock.internal"), "http://10.0.0.7:8080/");
        assert_eq!(aimed(at, "https://stock.internal?full=1"), "http://10.0.0.7:8080/?full=1");
        assert_eq!(aimed(at, "stock.internal:443"), "http://10.0.0.7:8080/");
        assert_eq!(aimed("https://[::1]:8443/", "*"), "https://[::1]:8443*");
        assert_eq!(aimed("https://stock.internal", "//evil/x"), "https://stock.internal//evil/x");
    }

    #[test]
    fn what_is_no_endpoint_is_refused_and_not_shown() {
        for url in [
            "",
            "/items",
            "10.0.0.7:8080",
            "ftp://host",
            "http://",
            "http://:80",
            "http://host:99999",
            "http://alice:hunter2@host",
            "http://host/items",
            "http://host?q",
            "http://ho st",
            "http://host\r\nx: y",
        ] {
            let error = HttpEndpoint::try_new((), url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_a_url_panics(url in "[a-z:/?@.*\\[\\]0-9]{1,24}") {
            let endpoint = HttpEndpoint::try_new((), "http://host:1").unwrap();
            if let Ok(mut uri) = url.parse::<Uri>() {
                endpoint.aim(&mut uri);
                prop_assert_eq!(uri.authority().map(Authority::as_str), Some("host:1"));
            }
        }
    }
}
