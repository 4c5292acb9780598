//! The stable semantic conventions for HTTP metrics (OpenTelemetry, *Semantic conventions for HTTP metrics*, and of *HTTP
//! spans* the section *Status*, to which they refer for what is an error).

use buttress_core::{Classify, Outcome, Rejectable};
use http::{Extensions, Method, Request, Response, StatusCode, Uri};

use crate::{Convention, Describe, Ended, Operation, Side};

const METHOD: &str = "http.request.method";
const STATUS: &str = "http.response.status_code";

/// Calls to HTTP servers: `http.client.request.duration`, with the method, the server's address and port, and the status.
///
/// The path is not told: it may be anything. A request that carries a [`UrlTemplate`] among its extensions is told apart by
/// it.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpClient;

/// Calls from HTTP clients: `http.server.request.duration`, with the method, the scheme and the status. What is below 500 is
/// no error of a server, as the conventions have it.
///
/// The path is not told: a client chooses it. A request that carries a [`UrlTemplate`] among its extensions is told apart by
/// it, as its `http.route`. With the feature `axum`, so is one for which a router has found a route: put the layer on the
/// router by `Router::layer`.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpServer;

/// What a request's path is made from, such as `/users/{id}`: an extension of the request. The program knows it, a client
/// does not choose it.
///
/// ```
/// use buttress_telemetry::UrlTemplate;
///
/// let request = http::Request::get("/users/42").extension(UrlTemplate("/users/{id}")).body(())?;
/// # Ok::<_, http::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlTemplate(pub &'static str);

/// Judges what a server answered: what is 500 and above is a failure, 429 throttles, what is 400 and above is the client's
/// own mistake. Any error is a failure, also of a type that knows nothing of rejections, such as axum's `Infallible`.
#[derive(Debug, Clone, Copy, Default)]
pub struct ServerStatus;

impl<B, Err> Classify<Response<B>, Err> for ServerStatus {
    fn classify(&self, result: &Result<Response<B>, Err>) -> Outcome {
        match result.as_ref().map(|response| response.status().as_u16()) {
            Err(_) | Ok(500..) => Outcome::Failure,
            Ok(429) => Outcome::Throttled(None),
            Ok(400..) => Outcome::Ignored,
            Ok(_) => Outcome::Success,
        }
    }
}

impl Convention for HttpClient {
    fn metric(&self) -> &'static str {
        "http.client.request.duration"
    }

    fn side(&self) -> Side {
        Side::Client
    }
}

impl<Req, Res, Err: Rejectable> Describe<Request<Req>, Response<Res>, Err> for HttpClient {
    #[inline]
    fn operation<'a>(&'a self, request: &'a Request<Req>) -> Operation<'a> {
        let uri = request.uri();
        let (host, port) = address(uri);
        let port = port.or_else(|| match uri.scheme_str() {
            Some("http") => Some(80),
            Some("https") => Some(443),
            _ => None,
        });
        let operation = Operation::new()
            .named(METHOD, known(request.method()))
            .named("url.template", template(request.extensions()))
            .with("server.address", host);
        match port {
            Some(port) => operation.with("server.port", i64::from(port)),
            None => operation,
        }
    }

    #[inline]
    fn end(result: &Result<Response<Res>, Err>) -> Ended<'_> {
        match result {
            Ok(response) => answered(response.status(), 400),
            Err(error) => {
                error.rejected().map_or_else(|| Ended::new().with_error("transport"), Ended::rejected)
            }
        }
    }
}

impl Convention for HttpServer {
    fn metric(&self) -> &'static str {
        "http.server.request.duration"
    }

    fn side(&self) -> Side {
        Side::Server
    }
}

impl<Req, Res, Err> Describe<Request<Req>, Response<Res>, Err> for HttpServer {
    #[inline]
    fn operation<'a>(&'a self, request: &'a Request<Req>) -> Operation<'a> {
        // A client chooses the scheme of an absolute URL.
        let scheme = match request.uri().scheme_str() {
            Some("https") => "https",
            _ => "http",
        };
        Operation::new()
            .named(METHOD, known(request.method()))
            .named("http.route", route(request.extensions()))
            .with("url.scheme", scheme)
    }

    #[inline]
    fn end(result: &Result<Response<Res>, Err>) -> Ended<'_> {
        match result {
            Ok(response) => answered(response.status(), 500),
            Err(_) => Ended::new().with_error("service"),
        }
    }
}

/// With an error from that status on.
fn answered(status: StatusCode, errors_from: u16) -> Ended<'static> {
    let status = status.as_u16();
    let ended = Ended::new().with_status(STATUS, i64::from(status));
    if status < errors_from { ended } else { ended.with_error(digits(status)) }
}

/// A status from 400 on as text, as `error.type` has it.
fn digits(status: u16) -> &'static str {
    const FIRST: usize = 400;
    const ALL: [u8; 3 * (1000 - FIRST)] = {
        let (mut all, mut status) = ([0; 3 * (1000 - FIRST)], FIRST);
        while status < 1000 {
            let at = 3 * (status - FIRST);
            all[at] = b'0' + (status / 100) as u8;
            all[at + 1] = b'0' + (status / 10 % 10) as u8;
            all[at + 2] = b'0' + (status % 10) as u8;
            status += 1;
        }
        all
    };
    static DIGITS: [u8; 3 * (1000 - FIRST)] = ALL;
    let at = usize::from(status).checked_sub(FIRST).map(|place| 3 * place);
    let text = at.and_then(|at| DIGITS.get(at..at + 3)).and_then(|digits| std::str::from_utf8(digits).ok());
    text.unwrap_or("_OTHER")
}

/// Host and port. The host is without the brackets of an IPv6 address.
fn address(uri: &Uri) -> (&str, Option<u16>) {
    uri.authority().and_then(|authority| plain(authority.as_str())).unwrap_or_else(|| {
        let host = uri.host().unwrap_or_default();
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        (bare.unwrap_or(host), uri.port_u16())
    })
}

/// The same of a name or IPv4 address without more than a port, as most are: in a third of the instructions.
fn plain(authority: &str) -> Option<(&str, Option<u16>)> {
    let special = authority.as_bytes().iter().position(|byte| matches!(byte, b'@' | b':' | b'['));
    let Some(at) = special else { return Some((authority, None)) };
    let digits = authority[at..].strip_prefix(':')?;
    let is_port = digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((&authority[..at], Some(digits.parse().ok().filter(|_| is_port)?)))
}

/// A method may be any word.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => "_OTHER",
    }
}

fn template(extensions: &Extensions) -> &'static str {
    extensions.get::<UrlTemplate>().map_or("", |template| template.0)
}

#[cfg(not(feature = "axum"))]
fn route(extensions: &Extensions) -> &str {
    template(extensions)
}

/// The program's own word goes before the router's.
#[cfg(feature = "axum")]
fn route(extensions: &Extensions) -> &str {
    match template(extensions) {
        "" => extensions.get().map_or("", axum::extract::MatchedPath::as_str),
        template => template,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_that_of_the_uri() {
        for (uri, host) in [
            ("http://stock", "stock"),
            ("http://stock:8080/a:1", "stock"),
            ("http://stock:/", "stock"),
            ("http://stock:99999/", "stock"),
            ("http://stock:+80/", "stock"),
            ("http://10.0.0.1", "10.0.0.1"),
            ("http://10.0.0.1:0080", "10.0.0.1"),
            ("http://8080:80", "8080"),
            ("http://8080", "8080"),
            ("http://[::1]:8080/", "::1"),
            ("http://[::1]", "::1"),
            ("http://user:1@stock:80/", "stock"),
            ("http://user@10.0.0.1", "10.0.0.1"),
            ("/path", ""),
        ] {
            let uri = Uri::from_static(uri);
            assert_eq!(address(&uri), (host, uri.port_u16()), "{uri}");
        }
    }

    #[test]
    fn every_status_is_its_three_digits() {
        for status in 400..1000 {
            assert_eq!(digits(status), status.to_string());
            assert_eq!(answered(StatusCode::from_u16(status).unwrap(), 400).error, Some(digits(status)));
        }
        for status in [0, 399, 1000, u16::MAX] {
            assert_eq!(digits(status), "_OTHER");
        }
    }
}
