//! The proxy: the cache before a client of the origin, and what RFC 9110 asks of an intermediary around them.

use std::{convert::Infallible, future::Future, io, time::Duration};

use axum::{Router, body::Body, response::IntoResponse};
use buttress_core::{BoxError, Rejectable};
use buttress_http::HttpClient;
use buttress_http_cache::{HttpCache, Kind};
use buttress_timeout::TimeoutLayer;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::net::TcpListener;
use tower::{ServiceBuilder, ServiceExt, service_fn, util::BoxCloneSyncService};

/// How the proxy is called in `Via` and `Cache-Status`.
const NAME: &str = "buttress";

/// A caching reverse proxy of one origin.
pub(crate) struct Proxy {
    cached: BoxCloneSyncService<Request<Body>, Response<Body>, buttress_http::Error>,
}

impl Proxy {
    /// # Errors
    /// If the origin is not an `http` or `https` address with a host, or TLS cannot be set up.
    pub(crate) fn to(origin: &Uri) -> Result<Self, BoxError> {
        let scheme = origin.scheme().cloned().ok_or("it has no scheme")?;
        let authority = origin.authority().cloned().ok_or("it has no host")?;
        let client = HttpClient::builder().name("origin").build::<Body>()?;
        // While the origin is away, what it said an hour ago is better than nothing, unless it forbids that.
        let cache = HttpCache::builder(NAME, Kind::Shared)
            .stale_if_error(Duration::from_secs(3_600))
            .cdn_cache_control()
            .build();
        let cached = ServiceBuilder::new()
            .map_response(|response: Response<buttress_http_cache::ResponseBody<_>>| response.map(Body::new))
            .layer(cache.layer())
            .layer(TimeoutLayer::new(Duration::from_secs(30)).name("origin"))
            .map_request(move |request| to_origin(request, &scheme, &authority))
            .service(client);
        Ok(Self { cached: BoxCloneSyncService::new(cached) })
    }

    /// Answers until `stopped`, then lets those finish that are on their way.
    ///
    /// # Errors
    /// When connections cannot be accepted any more.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        stopped: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let cached = self.cached;
        let service = service_fn(move |request: Request<Body>| {
            let cached = cached.clone();
            async move { Ok::<_, Infallible>(answer(cached, request).await) }
        });
        axum::serve(listener, Router::new().fallback_service(service)).with_graceful_shutdown(stopped).await
    }
}

async fn answer(
    cached: BoxCloneSyncService<Request<Body>, Response<Body>, buttress_http::Error>,
    mut request: Request<Body>,
) -> Response<Body> {
    if request.method() == Method::CONNECT {
        return (StatusCode::METHOD_NOT_ALLOWED, "no tunnels\n").into_response();
    }
    // Before the cache: what it compares must be what the origin gets.
    if !settle_host(&mut request) {
        return (StatusCode::BAD_REQUEST, "one Host, please\n").into_response();
    }
    remove_hop_by_hop(request.headers_mut());
    match cached.oneshot(request).await {
        Ok(mut response) => {
            remove_hop_by_hop(response.headers_mut());
            response
        }
        Err(error) => match error.rejected() {
            Some(rejected) => (*rejected).into(),
            None => (StatusCode::BAD_GATEWAY, "the origin does not answer\n").into_response(),
        },
    }
}

/// The request as the origin gets it: at its own address, with the `Host` that the client named.
fn to_origin(mut request: Request<Body>, scheme: &Scheme, authority: &Authority) -> Request<Body> {
    let mut uri = Uri::builder().scheme(scheme.clone()).authority(authority.clone());
    let slash = || PathAndQuery::from_static("/");
    uri = uri.path_and_query(request.uri().path_and_query().cloned().unwrap_or_else(slash));
    if let Ok(uri) = uri.build() {
        *request.uri_mut() = uri;
    }
    request.headers_mut().append(header::VIA, HeaderValue::from_static("1.1 buttress"));
    request
}

/// The target names the host, where it does; else one `Host` does (RFC 9112, section 3.2).
fn settle_host(request: &mut Request<Body>) -> bool {
    if let Some(authority) = request.uri().authority() {
        let host = authority.as_str().rsplit('@').next().unwrap_or_default();
        let Ok(host) = HeaderValue::from_str(host) else { return false };
        request.headers_mut().insert(header::HOST, host);
        return true;
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let is_host = |host: &str| !host.contains('@') && host.parse::<Authority>().is_ok();
    host.to_str().is_ok_and(is_host)
}

/// What is said between two neighbours (RFC 9110, section 7.6.1), and nothing that is for all who come after them, whatever
/// `Connection` says.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let known = [
        header::CONNECTION,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
    ];
    for name in named.iter().filter(|name| !FOR_ALL.contains(name)).chain(&known) {
        headers.remove(name);
    }
}

const FOR_ALL: [HeaderName; 10] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::VARY,
    header::DATE,
    header::EXPIRES,
    header::AGE,
    header::ETAG,
    header::LAST_MODIFIED,
];
