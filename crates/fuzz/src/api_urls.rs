use std::{
    cell::RefCell,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use buttress_http::{ApiClient, ApiError, Body};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use tokio::runtime::{Builder, Runtime};
use tower_service::Service;

use crate::cost::bounded;

/// The addresses that an API's client calls: whatever a parameter is, the call stays below the base URL; wherever a server
/// redirects it, the credentials stay with their origin, and no number of redirects is endless.
///
/// The input: lines, of the base URL, the path's template, where the server redirects to, and then of parameters,
/// `name=value`.
///
/// # Panics
/// Where that does not hold.
pub fn api_urls(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let [base, template, location] = [(); 3].map(|()| lines.next().unwrap_or_default());
    let params: Vec<(&str, &str)> = lines.take(8).filter_map(|line| line.split_once('=')).collect();
    let server = Server { seen: Arc::default(), location: HeaderValue::from_str(location).ok() };
    let client =
        ApiClient::builder("fuzz").base_url(base).bearer("hunter2").redirects(3).build(server.clone());
    let Ok(client) = client.inspect_err(|error| shown(error, base)) else { return };
    let called = bounded(data, 64 << 10, 256, || {
        let request =
            params.iter().fold(client.post(template), |request, (name, value)| request.param(name, value));
        RUNTIME
            .with_borrow(|runtime| runtime.block_on(request.body("x").send()).map(|answer| answer.status()))
    });
    let seen = std::mem::take(&mut *server.seen.lock().expect("nobody panics with it"));
    assert!(seen.len() <= 4, "{seen:?}");
    if let Err(error) = &called {
        assert!(!seen.is_empty() || matches!(error, ApiError::Invalid(_)), "{error:?}");
        shown(error, text);
    }
    let Some(((first, has_first), others)) = seen.split_first() else { return };
    assert!(has_first);
    stays_below(base, template, first, &params);
    let base: Uri = base.parse().expect("it was taken");
    for (to, has_credentials) in others {
        assert!(!has_credentials || is_same_origin(&base, to), "credentials went to {to}");
        assert!(first.scheme_str() == Some("http") || to.scheme_str() == Some("https"), "without TLS: {to}");
        assert!(to.authority().is_some_and(|authority| !authority.as_str().contains('@')), "{to}");
    }
}

thread_local! {
    static RUNTIME: RefCell<Runtime> =
        RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// Redirects every call to the same place.
#[derive(Debug, Clone)]
struct Server {
    /// Where to, and whether with the credentials.
    seen: Arc<Mutex<Vec<(Uri, bool)>>>,
    location: Option<HeaderValue>,
}

impl Service<Request<Body>> for Server {
    type Response = Response<Body>;
    type Error = buttress_http::Error;
    type Future = Ready<Result<Response<Body>, buttress_http::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let has_credentials = request.headers().contains_key(header::AUTHORIZATION);
        self.seen.lock().expect("nobody panics with it").push((request.uri().clone(), has_credentials));
        let mut response = Response::new(Body::empty());
        if let Some(location) = &self.location {
            *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
            response.headers_mut().insert(header::LOCATION, location.clone());
        }
        ready(Ok(response))
    }
}

/// The token is in none, nor is more than a line.
fn shown(error: &impl std::error::Error, input: &str) {
    let shown = format!("{error} {error:?}");
    assert!(input.contains("hunter2") || !shown.contains("hunter2"), "{shown}");
}

fn is_same_origin(one: &Uri, other: &Uri) -> bool {
    let port =
        |uri: &Uri| uri.port_u16().or(if uri.scheme_str() == Some("https") { Some(443) } else { Some(80) });
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    one.scheme() == other.scheme() && port(one) == port(other) && (host(one) == host(other) || is_odd(one))
}

/// A host that is written in several ways, such as `0x7f.1`: the model does not know.
fn is_odd(uri: &Uri) -> bool {
    uri.host()
        .is_some_and(|host| host.contains(['%', '[']) || host.starts_with(|char: char| char.is_ascii_digit()))
        || uri.host().is_some_and(|host| {
            host.rsplit('.').any(|part| part.starts_with(|char: char| char.is_ascii_digit()))
        })
}

fn stays_below(base: &str, template: &str, called: &Uri, params: &[(&str, &str)]) {
    let base: Uri = base.parse().expect("it was taken");
    assert_eq!((base.scheme(), base.authority()), (called.scheme(), called.authority()));
    let root = base.path().trim_end_matches('/');
    let below = called.path().strip_prefix(root).unwrap_or_else(|| panic!("{called} is not below {base}"));
    assert!(below.is_empty() || below.starts_with('/'), "{called} is not below {base}");
    // As the least careful server reads it.
    let mut decoded = below.to_owned();
    for _ in 0..3 {
        decoded = percent_decoded(&decoded).replace('\\', "/");
        if decoded.contains('%') {
            continue;
        }
        break;
    }
    if !below.contains("%25") {
        assert!(!decoded.split('/').any(|part| matches!(part, "." | "..")), "{called} leaves {base}");
    }
    assert!(called.query().is_none(), "a parameter is no query: {called}");
    // A value is one segment, or a part of one.
    let slashes = |text: &str| text.matches('/').count();
    let literal: String = literal(template);
    let own = slashes(&literal) + usize::from(!template.starts_with('/') && !below.is_empty());
    assert_eq!(slashes(below), own, "{called} of {template:?} with {params:?}");
}

/// The template without its places.
fn literal(template: &str) -> String {
    let mut left = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        left.push_str(before);
        rest = after.split_once('}').map_or("", |(_, behind)| behind);
    }
    left + rest
}

fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|_| bytes[at] == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
