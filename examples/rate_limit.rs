//! A server that limits each client and says so, and a client that listens: `cargo run --example rate_limit`

#![expect(clippy::print_stdout, reason = "an example speaks to its reader")]

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    http::{Extensions, HeaderMap, HeaderName, Response, header},
    routing::get,
};
use buttress_core::{BoxError, Respond, problem};
use buttress_http::HttpClient;
use buttress_rate_limit::{
    Limit, Rate, RateLimitLayer,
    http::{AdvertiseLayer, ClientIp, Forwarding, ObeyLayer, Proxies},
};
use bytes::Bytes;
use http_body_util::Empty;
use tokio::{net::TcpListener, time::Instant};
use tower::{Service, ServiceBuilder, ServiceExt};

/// The address at the other end of the connection, where axum's `into_make_service_with_connect_info` puts it.
fn peer(extensions: &Extensions) -> Option<std::net::IpAddr> {
    Some(extensions.get::<ConnectInfo<SocketAddr>>()?.0.ip())
}

/// Five at once, then five a second, for each client. Behind a proxy on this machine, that is whom it names.
fn app() -> Result<Router, BoxError> {
    let clients = ClientIp::new(peer).behind(Proxies::new(Forwarding::XForwardedFor, ["127.0.0.1".parse()?]));
    let client = move |request: &Request| clients.of(request);
    let limit = RateLimitLayer::builder("search", Limit::gcra(Rate::per_second(5), 5)?)
        .keyed(client.clone())
        .capacity(100_000)
        .build();
    let advertise = AdvertiseLayer::try_new(limit.limiter().with_key(client))?;
    Ok(Router::new()
        .route("/search", get(|| async { "found" }))
        .layer(Respond::with(limit, problem)) // a refusal is a 429 with a body
        .layer(advertise)) // outermost, so that a 429 has its fields too
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/search", listener.local_addr()?);
    let app = app()?.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, app).await });

    // One that asks as fast as it can is refused.
    let mut greedy = HttpClient::builder().build()?;
    for call in 1..=7 {
        let request = Request::get(&url).header("x-forwarded-for", "203.0.113.7");
        let response = greedy.ready().await?.call(request.body(Empty::<Bytes>::new())?).await?;
        println!("greedy {call}: {}", told(&response));
    }

    // One that listens waits by itself, though nobody told it the server's limit.
    let limit =
        RateLimitLayer::builder("search-api", Rate::per_second(1_000)).wait(Duration::from_secs(5)).build();
    let obey = ObeyLayer::new(limit.limiter());
    let mut patient = ServiceBuilder::new().layer(limit).layer(obey).service(HttpClient::builder().build()?);
    let start = Instant::now();
    for call in 1..=9 {
        let request = Request::get(&url).header("x-forwarded-for", "203.0.113.8");
        let response = patient.ready().await?.call(request.body(Empty::<Bytes>::new())?).await?;
        println!("patient {call} after {:.1?}: {}", start.elapsed(), told(&response));
    }
    server.abort();
    Ok(())
}

fn told<B>(response: &Response<B>) -> String {
    let field = |name: &str| text(response.headers(), name);
    format!(
        "{} RateLimit: {} of {}, Retry-After: {}",
        response.status(),
        field("ratelimit"),
        field("ratelimit-policy"),
        field(header::RETRY_AFTER.as_str())
    )
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let name = HeaderName::try_from(name).ok();
    name.and_then(|name| headers.get(name)?.to_str().ok()).unwrap_or("-")
}
